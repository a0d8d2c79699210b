//! The terminal of `hark watch`: keys, drawing, and a thread that follows the daemon, also when it
//! is started again.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use jiff::tz::TimeZone;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::Value;

use super::subscribed;
use super::view::View;
use crate::outputs::client::Client;
use crate::outputs::protocol::HelloRecord;

/// Longest time between a record and its drawing; live records come about as often.
const TICK: Duration = Duration::from_millis(80);

/// Time between attempts to reach a daemon that has gone.
const RETRY: Duration = Duration::from_millis(500);

/// What the following thread tells.
enum News {
    Hello(HelloRecord<'static>),
    Line(String),
    Lost(String),
}

/// Draws until `q`, Escape or Ctrl-C.
///
/// # Errors
/// When the terminal fails; it is restored in any case, also after a panic.
pub(super) fn run(client: Client, path: PathBuf, wanted: Value) -> anyhow::Result<()> {
    let (send, news) = channel();
    // Detached: it may wait for a line for ever, and ends with the program.
    std::thread::Builder::new()
        .name("follow".to_owned())
        .spawn(move || follow(client, &path, &wanted, &send))?;
    let mut terminal = ratatui::try_init()?;
    let ended = show(&mut terminal, &news);
    ratatui::try_restore()?;
    Ok(ended?)
}

fn show(terminal: &mut DefaultTerminal, news: &Receiver<News>) -> io::Result<()> {
    let mut view = View::new(TimeZone::system());
    loop {
        loop {
            match news.try_recv() {
                Ok(News::Hello(hello)) => view.greet(&hello),
                Ok(News::Line(line)) => view.apply(&line),
                Ok(News::Lost(why)) => view.lose(why),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        terminal.draw(|frame| view.draw(frame))?;
        if event::poll(TICK)? && quits(&event::read()?) {
            return Ok(());
        }
    }
}

fn quits(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    if key.kind != KeyEventKind::Press {
        return false;
    }
    match key.code {
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

/// Sends what the daemon says until nobody takes it.
fn follow(mut client: Client, path: &std::path::Path, wanted: &Value, news: &Sender<News>) {
    loop {
        let mut alive = news.send(News::Hello(client.hello.clone())).is_ok();
        while alive && let Ok(Some(line)) = client.line() {
            alive = news.send(News::Line(line)).is_ok();
        }
        let why = "waiting until it is started again".to_owned();
        if !alive || news.send(News::Lost(why)).is_err() {
            return;
        }
        client = loop {
            std::thread::sleep(RETRY);
            if let Ok(client) = Client::connect(path).and_then(|c| subscribed(c, wanted)) {
                break client;
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn the_usual_keys_quit() {
        let check = |code, modifiers, expected| {
            let key = Event::Key(KeyEvent::new(code, modifiers));
            assert_eq!(quits(&key), expected, "{key:?}");
        };
        check(KeyCode::Char('q'), KeyModifiers::NONE, true);
        check(KeyCode::Esc, KeyModifiers::NONE, true);
        check(KeyCode::Char('c'), KeyModifiers::CONTROL, true);
        check(KeyCode::Char('c'), KeyModifiers::NONE, false);
        check(KeyCode::Char('x'), KeyModifiers::NONE, false);
        assert!(!quits(&Event::Resize(3, 3)));
    }
}
