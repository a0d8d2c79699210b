//! A picture of the figures: SVG 1.1, a row for each phrasing with a dot for each file.
//!
//! It has a title and a description for those who hear it, takes the colours of a light or a dark page,
//! holds no script and loads nothing. Every text is escaped.

use std::fmt::Write;

use super::figures::{Figures, Row};
use super::show::{TOGETHER, counted, percent, rivals, shortened, verdict};

/// Sizes in pixels.
const WIDTH: usize = 900;
const TOP: usize = 104;
const ROW: usize = 26;
const BOTTOM: usize = 60;
/// Where the scores begin and end.
const PLOT: (f64, f64) = (340.0, 720.0);
/// Where the shares of top-1 begin and end.
const SHARE: (f64, f64) = (760.0, 850.0);
/// Characters of a phrasing that fit before the plot.
const MAX_TEXT: usize = 44;
/// More files than this are a line from the lowest to the highest.
const MAX_DOTS: usize = 40;

/// Colours with a contrast of at least 4.5 to their page, dots that two in a place show as darker.
const STYLE: &str = "\
.page{fill:#fff}text{font:13px system-ui,sans-serif;fill:#1b1b1f}.big{font-size:17px;font-weight:600}\
.faint{fill:#5a5a66}.grid{stroke:#d5d5dd}.limit{stroke:#b3261e;stroke-dasharray:4 3}\
.range{stroke:#8ea2c8;stroke-width:3;stroke-linecap:round}.dot{fill:#2f5fb3;fill-opacity:.65}\
.mean{stroke:#1b1b1f;stroke-width:2}.share{fill:#8ea2c8}.all{font-weight:600}\
@media(prefers-color-scheme:dark){.page{fill:#16161a}text{fill:#ececf1}.faint{fill:#a9a9b6}\
.grid{stroke:#3a3a44}.limit{stroke:#ff8a80}.range{stroke:#4a5f8a}.dot{fill:#8fb4ff}\
.mean{stroke:#ececf1}.share{fill:#4a5f8a}}";

/// The picture as the text of a file.
pub fn svg(figures: &Figures) -> String {
    let rows: Vec<&Row> = figures
        .phrasings
        .iter()
        .chain([&figures.together])
        .collect();
    let bottom = TOP + rows.len() * ROW;
    let height = bottom + BOTTOM;
    let title = format!("How '{}' scores in each phrasing", figures.prompt);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n",
        escaped(&title),
        escaped(&described(figures)),
    );
    let about = format!(
        "{} of {}, against {}; {}",
        counted(figures.windows, "window"),
        counted(figures.files.len(), "file"),
        rivals(figures),
        figures.model
    );
    text(
        &mut svg,
        (16.0, 30.0),
        "class=\"big\"",
        &shortened(&title, 90),
    );
    text(
        &mut svg,
        (16.0, 52.0),
        "class=\"faint\"",
        &shortened(&about, 120),
    );
    text(&mut svg, (16.0, 88.0), "class=\"faint\"", "phrasing");
    text(
        &mut svg,
        (PLOT.0, 88.0),
        "class=\"faint\"",
        "score, a dot for each file",
    );
    text(&mut svg, (SHARE.0, 88.0), "class=\"faint\"", "top-1");
    axis(&mut svg, figures.threshold, bottom);
    for (at, row) in rows.iter().enumerate() {
        let y = (TOP + at * ROW + ROW / 2) as f64;
        draw_row(&mut svg, row, figures, y);
    }
    let spread = format!(
        "top-1 over the phrasings: {} in the mean, spread {}, from {} to {}",
        percent(figures.top1.mean),
        percent(figures.top1.spread),
        percent(figures.top1.min),
        percent(figures.top1.max)
    );
    text(&mut svg, (16.0, (bottom + 48) as f64), "", &spread);
    svg.push_str("</svg>\n");
    svg
}

/// The picture in words.
fn described(figures: &Figures) -> String {
    let rows = figures.phrasings.iter().chain([&figures.together]);
    let rows: Vec<String> = rows
        .map(|row| {
            format!(
                "{}: score {:.2}, top-1 {}",
                row.text.as_deref().unwrap_or(TOGETHER),
                row.score,
                percent(row.top1)
            )
        })
        .collect();
    format!("{} {}.", verdict(figures), rows.join("; "))
}

fn text(svg: &mut String, (x, y): (f64, f64), attributes: &str, content: &str) {
    let content = escaped(content);
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.0}\" y=\"{y:.0}\" {attributes}>{content}</text>"
    );
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    // As above.
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

/// Where a score stands.
fn x_of(score: f64) -> f64 {
    PLOT.0 + score.clamp(0.0, 1.0) * (PLOT.1 - PLOT.0)
}

fn axis(svg: &mut String, threshold: f32, bottom: usize) {
    let (top, bottom) = (TOP as f64, bottom as f64);
    for tick in 0..=4 {
        let score = f64::from(tick) / 4.0;
        let x = x_of(score);
        line(svg, "grid", (x, top), (x, bottom));
        let attributes = "class=\"faint\" text-anchor=\"middle\"";
        text(svg, (x, bottom + 18.0), attributes, &format!("{score}"));
    }
    let x = x_of(f64::from(threshold));
    line(svg, "limit", (x, top - 4.0), (x, bottom));
    let attributes = "class=\"faint\" text-anchor=\"middle\"";
    text(svg, (x, bottom + 32.0), attributes, "threshold");
}

fn draw_row(svg: &mut String, row: &Row, figures: &Figures, y: f64) {
    let (name, class) = match &row.text {
        Some(text) => (text.as_str(), ""),
        None => (TOGETHER, "class=\"all\""),
    };
    // Writing to a string does not fail, here and below.
    let _ = writeln!(svg, "<g><title>{}</title>", escaped(name));
    text(svg, (16.0, y + 4.0), class, &shortened(name, MAX_TEXT));
    let scores: Vec<f64> = row.files.iter().map(|cell| f64::from(cell.score)).collect();
    let least = scores.iter().copied().fold(1.0, f64::min);
    let most = scores.iter().copied().fold(0.0, f64::max);
    line(svg, "range", (x_of(least.min(most)), y), (x_of(most), y));
    if scores.len() <= MAX_DOTS {
        for (score, file) in scores.iter().zip(&figures.files) {
            let _ = writeln!(
                svg,
                "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\"><title>{} {score:.2}</title></circle>",
                x_of(*score),
                escaped(&file.file)
            );
        }
    }
    let mean = x_of(row.score);
    line(svg, "mean", (mean, y - 8.0), (mean, y + 8.0));
    let width = row.top1.clamp(0.0, 1.0) * (SHARE.1 - SHARE.0);
    let _ = writeln!(
        svg,
        "<rect class=\"share\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"14\"/>",
        SHARE.0,
        y - 7.0
    );
    text(svg, (SHARE.0 + 4.0, y + 4.0), "", &percent(row.top1));
    svg.push_str("</g>\n");
}

/// A text for XML: marks as entities, and none of the characters that XML 1.0 has no place for.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::sample::figures;
    use super::*;

    #[test]
    fn the_picture_says_what_the_table_says_and_closes_every_tag() {
        let svg = svg(&figures());
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
        assert!(
            svg.contains(
                "<title id=\"title\">How &#39;kettle&#39; scores in each phrasing</title>"
            )
        );
        assert!(svg.contains("<desc id=\"desc\">Over 2 phrasings"));
        assert!(svg.contains("The sound of a &lt;kettle&gt; &amp; more."));
        assert!(svg.contains("prefers-color-scheme:dark"));
        assert!(!svg.contains("<script") && !svg.contains("<kettle>"));
        // Two phrasings and all together on two files.
        assert_eq!(svg.matches("<circle").count(), 6);
        assert_eq!(svg.matches("class=\"share\"").count(), 3);
        for tag in ["svg", "g", "text", "title", "desc", "style", "circle"] {
            let opened =
                svg.matches(&format!("<{tag} ")).count() + svg.matches(&format!("<{tag}>")).count();
            assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn scores_stand_where_they_belong() {
        assert_eq!(x_of(0.0), PLOT.0);
        assert_eq!(x_of(2.0), PLOT.1);
        assert_eq!(x_of(0.5), (PLOT.0 + PLOT.1) / 2.0);
        assert_eq!(escaped("a\u{1b}<\u{ffff}"), "a\u{fffd}&lt;\u{fffd}");
    }

    #[test]
    fn many_files_are_a_line() {
        let mut figures = figures();
        for row in figures.phrasings.iter_mut().chain([&mut figures.together]) {
            row.files = vec![row.files[0].clone(); MAX_DOTS + 1];
        }
        assert_eq!(svg(&figures).matches("<circle").count(), 0);
    }
}
