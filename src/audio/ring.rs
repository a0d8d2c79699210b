//! The lock-free ring between a source and the listener.

use super::Format;

/// Makes a ring that holds `capacity_s` seconds of mono sound of `format`.
pub fn pcm_ring(format: Format, capacity_s: f64) -> (PcmWriter, PcmReader) {
    let _ = (format, capacity_s);
    todo!()
}

/// The source's end. Mixes to mono and pushes; real-time safe but for [`PcmWriter::write_blocking`].
pub struct PcmWriter {}

impl PcmWriter {
    /// Mixes interleaved samples to mono and pushes them; what does not fit is counted as lost.
    /// Real-time safe.
    pub fn write(&mut self, interleaved: &[f32]) {
        let _ = interleaved;
        todo!()
    }

    /// The same, but waits for room: for files and pipes. Returns `false` when the reader has gone.
    pub fn write_blocking(&mut self, interleaved: &[f32]) -> bool {
        let _ = interleaved;
        todo!()
    }

    /// Counts native frames that the device says it has lost. Real-time safe.
    pub fn lost(&mut self, frames: u64) {
        let _ = frames;
        todo!()
    }
}

/// The listener's end.
pub struct PcmReader {}

/// What one read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Block {
    /// Mono samples at the native rate that were appended.
    pub samples: usize,
    /// Frames at the native rate that were lost before these samples.
    pub lost_before: u64,
}

impl PcmReader {
    /// Appends at most `max` mono samples to `out` without waiting; never crosses a gap, so that
    /// `lost_before` stands exactly before the samples it returns.
    pub fn read(&mut self, out: &mut Vec<f32>, max: usize) -> Block {
        let _ = (out, max);
        todo!()
    }

    /// Waits until `samples` are there, the writer has gone, or `timeout` has passed.
    pub fn wait(&self, samples: usize, timeout: std::time::Duration) {
        let _ = (samples, timeout);
        todo!()
    }

    /// Whether the writer has gone and everything was read.
    pub fn is_finished(&self) -> bool {
        todo!()
    }
}
