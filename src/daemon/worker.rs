//! A thread beside the loop for what takes its time: one job after the other, each with a result.
//!
//! The loop never waits for it. It ends with its daemon, or as soon as its last job is done.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::models::ModelError;

/// What is done on the thread.
pub(super) trait Work: Send + 'static {
    /// What there is to do.
    type Job: Send;
    /// What comes of it.
    type Done: Send;
    /// Why nothing does.
    type Error: From<ModelError> + Send;

    /// Does a job.
    ///
    /// # Errors
    /// When a model cannot be loaded, or fails.
    fn work(&mut self, job: Self::Job) -> Result<Self::Done, Self::Error>;

    /// There was nothing to do for a while: drops what is kept for the next job alone.
    fn rest(&mut self);
}

/// The way to the thread.
pub(super) struct Worker<W: Work> {
    jobs: Sender<W::Job>,
    done: Receiver<Result<W::Done, W::Error>>,
}

impl<W: Work> Worker<W> {
    /// Starts a thread of this name, which rests after `idle` without a job.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(name: &str, mut work: W, idle: Duration) -> io::Result<Self> {
        let (jobs, inbox) = unbounded();
        let (tell, done) = unbounded();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut rested = true;
                loop {
                    let job = match rested {
                        true => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                        false => inbox.recv_timeout(idle),
                    };
                    match job {
                        Ok(job) => {
                            rested = false;
                            let done = catch_unwind(AssertUnwindSafe(|| work.work(job)));
                            if tell
                                .send(done.unwrap_or_else(|_| Err(crashed().into())))
                                .is_err()
                            {
                                return;
                            }
                        }
                        Err(RecvTimeoutError::Timeout) => {
                            work.rest();
                            rested = true;
                        }
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            })?;
        Ok(Worker { jobs, done })
    }

    /// Gives it a job; the result follows on [`Worker::done`].
    pub fn give(&self, job: W::Job) {
        // The thread lives as long as this does.
        drop(self.jobs.send(job));
    }

    /// Where results come out, in the order of the jobs.
    pub fn done(&self) -> &Receiver<Result<W::Done, W::Error>> {
        &self.done
    }
}

fn crashed() -> ModelError {
    ModelError::Format("a model has crashed; this is a fault in hark, please report it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Squares(Sender<&'static str>);

    impl Work for Squares {
        type Job = u32;
        type Done = u32;
        type Error = ModelError;

        fn work(&mut self, job: u32) -> Result<u32, ModelError> {
            assert!(job != 13, "unlucky");
            Ok(job * job)
        }

        fn rest(&mut self) {
            self.0.send("rests").unwrap();
        }
    }

    #[test]
    fn jobs_are_done_in_order_a_crash_is_one_result_and_it_rests_once() {
        let (tell, rests) = unbounded();
        let worker = Worker::start("squares", Squares(tell), Duration::from_millis(1)).unwrap();
        for job in [3, 13, 4] {
            worker.give(job);
        }
        let limit = Duration::from_secs(10);
        let next = || worker.done().recv_timeout(limit).unwrap();
        assert_eq!(next().unwrap(), 9);
        assert!(next().unwrap_err().to_string().contains("has crashed"));
        assert_eq!(next().unwrap(), 16);
        assert_eq!(rests.recv_timeout(limit), Ok("rests"));
        drop(worker);
        // It ends without resting again: nothing was done since.
        assert_eq!(
            rests.recv_timeout(limit),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}
