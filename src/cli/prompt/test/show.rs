//! What `hark prompt test` shows: two tables for a person, or one JSON object.

use std::path::Path;

use super::figures::{Figures, Row, Spread};
use crate::cli::out;

/// The longest phrasing or file name of a table, in characters.
const MAX_TEXT: usize = 60;
/// How all phrasings together are called.
pub const TOGETHER: &str = "all together, as the daemon listens";

/// Writes the figures on standard output.
///
/// # Errors
/// When it takes no more.
pub fn show(figures: &Figures, json: bool, picture: Option<&Path>) -> anyhow::Result<()> {
    if json {
        out::line(serde_json::to_string(figures)?)?;
        return Ok(());
    }
    out::text(tables(figures))?;
    match picture {
        Some(path) => out::line(format_args!("\n{}: a picture of this", path.display()))?,
        None => out::line("\nA picture of this: add --svg FILE")?,
    }
    Ok(())
}

/// `text` as far as a table has room for it.
pub fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(longest.saturating_sub(3)).collect();
            format!("{kept}...")
        }
    }
}

/// `count` things, and what one of them is called.
pub fn counted(count: usize, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}

/// A share as it is read.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// What competes with the prompt.
pub fn rivals(figures: &Figures) -> String {
    let background = counted(figures.background, "background phrase");
    match figures.others.len() {
        0 => background,
        others => format!("{background} and {}", counted(others, "other prompt")),
    }
}

/// How much the phrasing changes the top-1, in a sentence.
pub fn verdict(figures: &Figures) -> String {
    let Spread {
        mean,
        spread,
        min,
        max,
    } = figures.top1;
    format!(
        "Over {} it is the top-1 of {} of the windows in the mean, spread (standard deviation) {}, from {} to {}; \
         score {:.2} in the mean, spread {:.2}, from {:.2} to {:.2}.",
        counted(figures.phrasings.len(), "phrasing"),
        percent(mean),
        percent(spread),
        percent(min),
        percent(max),
        figures.score.mean,
        figures.score.spread,
        figures.score.min,
        figures.score.max,
    )
}

fn tables(figures: &Figures) -> String {
    let mut text = format!(
        "{}: {} of {}, against {}  ({}, threshold {})\n\n",
        figures.prompt,
        counted(figures.windows, "window"),
        counted(figures.files.len(), "file"),
        rivals(figures),
        figures.model,
        figures.threshold,
    );
    text.push_str(&by_phrasing(figures));
    text.push_str(&format!("\n{}\n\n", verdict(figures)));
    text.push_str(&by_file(figures));
    text
}

fn by_phrasing(figures: &Figures) -> String {
    let name = |row: &Row| shortened(row.text.as_deref().unwrap_or(TOGETHER), MAX_TEXT);
    let rows = figures.phrasings.iter().chain([&figures.together]);
    let cells = rows.map(|row| {
        vec![
            name(row),
            percent(row.top1),
            format!("{:.3}", row.similarity),
            format!("{:.2}", row.score),
        ]
    });
    table(
        ["phrasing", "top-1", "similarity", "score"]
            .map(str::to_owned)
            .into(),
        cells,
    )
}

fn by_file(figures: &Figures) -> String {
    let heading = [
        "file",
        "windows",
        "top-1",
        "similarity",
        "score",
        "by phrasing",
        "nearest beside it",
    ];
    let cells = figures.files.iter().enumerate().map(|(at, file)| {
        let Some(cell) = figures.together.files.get(at) else {
            return vec![shortened(&file.file, MAX_TEXT)];
        };
        let Spread { min, max, .. } = figures.scores_of(at);
        vec![
            shortened(&file.file, MAX_TEXT),
            file.windows.to_string(),
            percent(cell.top1 as f64 / file.windows.max(1) as f64),
            format!("{:.3}", cell.similarity),
            format!("{:.2}", cell.score),
            format!("{min:.2} to {max:.2}"),
            cell.nearest.clone().unwrap_or_default(),
        ]
    });
    table(heading.map(str::to_owned).into(), cells)
}

/// Columns under their headings: the first and those after the sixth to the left, numbers to the right.
fn table(heading: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = [heading].into_iter().chain(rows).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let fill = " ".repeat(widths[column] - cell.chars().count());
            let (before, after) = match column {
                0 => ("", fill.as_str()),
                6.. => ("  ", ""),
                _ => ("", ""),
            };
            match column {
                1..6 => line.push_str(&format!("  {fill}{cell}")),
                _ => line.push_str(&format!("{before}{cell}{after}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample::figures;
    use super::*;

    #[test]
    fn the_tables_say_how_each_phrasing_and_each_file_fared() {
        let expected = "\
kettle: 3 windows of 2 files, against 130 background phrases and 1 other prompt  (tiny, threshold 0.5)

phrasing                             top-1  similarity  score
a kettle                              67 %       0.400   0.80
The sound of a <kettle> & more.       33 %       0.250   0.50
all together, as the daemon listens  100 %       0.400   0.82

Over 2 phrasings it is the top-1 of 50 % of the windows in the mean, spread (standard deviation) 17 %, \
from 33 % to 67 %; score 0.65 in the mean, spread 0.15, from 0.50 to 0.80.

file     windows  top-1  similarity  score   by phrasing  nearest beside it
one.wav        2  100 %       0.500   0.95  0.80 to 0.90  prompt door
two.wav        1  100 %       0.300   0.70  0.20 to 0.70  prompt door
";
        let mut figures = figures();
        figures.background = 130;
        assert_eq!(tables(&figures), expected);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}", 4), "\u{e4}...");
        assert_eq!(shortened("abcd", 4), "abcd");
        assert_eq!(counted(1, "file"), "1 file");
    }
}
