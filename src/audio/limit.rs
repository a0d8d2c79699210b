//! Questions to a sound server, each on a thread of its own that may hang without harm.
//!
//! A frozen server answers nothing, and the call that waits for it cannot be broken off: the thread is
//! left behind, and there are never more than a few of them.

use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::AudioError;

/// How long a sound server may take for an answer.
pub(super) const ANSWER: Duration = Duration::from_secs(4);
/// How many threads may talk to a sound server, or hang in one, before no further one is risked. A
/// microphone that runs has three.
const MAX_THREADS: usize = 24;

/// The error of a server that has not answered within [`ANSWER`].
pub(super) fn no_answer(what: &str) -> AudioError {
    AudioError::Device(format!(
        "cannot {what}: the sound server has not answered for {} s; restart it",
        ANSWER.as_secs()
    ))
}

/// Name of all threads that talk to a sound server; those that its client library starts inherit it.
const THREAD_NAME: &str = "hark-mic";

/// How many threads talk to a sound server now, or hang in one. It falls again when the server wakes
/// up or dies.
fn mic_threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|task| {
            std::fs::read_to_string(task.path().join("comm"))
                .is_ok_and(|name| name.trim_end() == THREAD_NAME)
        })
        .count()
}

/// Runs `work` on a thread of its own, unless too many hang already.
pub(super) fn spawn(what: &str, work: impl FnOnce() + Send + 'static) -> Result<(), AudioError> {
    if mic_threads() >= MAX_THREADS {
        return Err(AudioError::Device(format!(
            "cannot {what}: {MAX_THREADS} threads of earlier attempts still hang in the sound server; restart it"
        )));
    }
    thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| AudioError::Device(format!("cannot {what}: no thread for it: {error}")))
}

/// Runs `work` on a thread of its own and waits for it no longer than [`ANSWER`].
pub(super) fn within_limit<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AudioError> {
    let (done, result) = bounded(1);
    spawn(what, move || {
        // When nobody waits any more, the result ends here.
        drop(done.send(work()));
    })?;
    result.recv_timeout(ANSWER).map_err(|_| no_answer(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_hang_are_left_behind_and_bounded() {
        let (release, forever) = bounded::<()>(0);
        let (started_in, started) = bounded(0);
        for _ in 0..MAX_THREADS {
            let (forever, started_in) = (forever.clone(), started_in.clone());
            spawn("hang", move || {
                started_in.send(()).unwrap();
                assert!(forever.recv().is_err());
            })
            .unwrap();
            started.recv().unwrap();
        }
        let error = within_limit("ask", || 7).unwrap_err();
        assert!(error.to_string().contains("still hang"), "{error}");
        drop(release);
        while mic_threads() >= MAX_THREADS {
            thread::yield_now();
        }
        assert_eq!(within_limit("ask", || 7).unwrap(), 7);
    }
}
