//! Threads and schedule: listener, worker, supervision.
