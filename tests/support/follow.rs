//! A subscription to events and states that waits for what a test wants.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::time::{Duration, Instant};

use harkd::outputs::client::Client;
use serde_json::{Value, json};

/// How long a test waits for something that must come; nothing waits so long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A subscription. Events and states come on ways of their own, so their order among each other is
/// not asserted: what was not waited for yet is kept.
pub struct Followed {
    client: Client,
    kept: Vec<Value>,
}

impl Followed {
    /// Subscribes to everything from now on.
    pub fn new(mut client: Client) -> Self {
        client.set_timeout(Some(PATIENCE)).unwrap();
        client.call("subscribe", json!({"live": true})).unwrap();
        Followed {
            client,
            kept: Vec::new(),
        }
    }

    fn next(&mut self) -> Option<Value> {
        let line = self.client.line().expect("nothing comes");
        line.map(|line| serde_json::from_str(&line).unwrap())
    }

    fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.kept.iter().position(&wanted) {
                let found = self.kept.remove(at);
                // A state that has passed is no longer in force.
                let mut index = 0;
                self.kept.retain(|value| {
                    index += 1;
                    index > at || value["type"] != "state" || found["type"] != "state"
                });
                return found;
            }
            assert!(Instant::now() < limit, "no {what}, but {:#?}", self.kept);
            match self.next() {
                Some(value) if value["type"] == "live" => {}
                Some(value) => self.kept.push(value),
                None => panic!("closed before {what}, but {:#?}", self.kept),
            }
        }
    }

    /// Waits for an event of this phase whose `key` is `value`.
    pub fn event(&mut self, phase: &str, key: &str, value: &str) -> Value {
        self.until(&format!("{phase} of {value}"), |line| {
            line["type"] == "event" && line["phase"] == phase && line[key] == value
        })
    }

    /// Waits for a change to a state and gives the reason.
    pub fn state(&mut self, state: &str) -> String {
        let line = self.until(state, |line| {
            line["type"] == "state" && line["state"] == state
        });
        line["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Every event until the daemon closes.
    pub fn until_closed(&mut self) -> Vec<Value> {
        let mut all = std::mem::take(&mut self.kept);
        while let Some(line) = self.next() {
            all.push(line);
        }
        all.retain(|line| line["type"] == "event");
        all
    }

    /// Forgets what was not waited for.
    pub fn forget(&mut self) {
        self.kept.clear();
    }
}
