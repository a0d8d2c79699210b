//! A larger model as teacher: a program that reads windows and writes scores over two pipes.
//!
//! The protocol is described in `models/teachers/teacher.py`: one line of JSON first, then for every
//! `u32 n` and `n` windows of f32 the outputs of every window as f32, little-endian.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

/// A running teacher; it ends when this is dropped.
pub struct Teacher {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    header: Header,
}

/// What a teacher says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Header {
    /// File name of the model.
    pub model: String,
    /// Samples of a window at 16 kHz.
    pub samples: usize,
    /// What it gives for a window, in order.
    pub outputs: Vec<OutputSpec>,
}

/// One output of a teacher.
#[derive(Debug, Clone, Deserialize)]
pub struct OutputSpec {
    /// `scores` and others.
    pub name: String,
    /// Values a window.
    pub dim: usize,
}

/// A teacher that does not do as it should.
#[derive(Debug, thiserror::Error)]
#[error("teacher '{command}': {what}")]
pub struct TeacherError {
    command: String,
    what: String,
}

impl Teacher {
    /// Starts `command`, an argv.
    ///
    /// # Errors
    /// When it does not start, or does not introduce itself as the protocol asks.
    pub fn start(command: &[String]) -> Result<Self, TeacherError> {
        let fail = |what: String| TeacherError {
            command: command.join(" "),
            what,
        };
        let (program, args) = command
            .split_first()
            .ok_or_else(|| fail("empty command".to_owned()))?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| fail(format!("cannot be started: {e}")))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(fail("has no pipes".to_owned()));
        };
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output
            .read_line(&mut line)
            .map_err(|e| fail(e.to_string()))?;
        let header = serde_json::from_str(&line).map_err(|e| {
            fail(format!(
                "expected a line of JSON first, got '{}' ({e})",
                line.trim()
            ))
        })?;
        Ok(Teacher {
            child,
            input: Some(input),
            output,
            header,
        })
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Outputs of every window one after the other, each as long as all outputs together.
    ///
    /// # Errors
    /// When a window has the wrong length or the teacher ends.
    pub fn score(&mut self, windows: &[&[f32]]) -> Result<Vec<Vec<f32>>, TeacherError> {
        let model = self.header.model.clone();
        let fail = |what: String| TeacherError {
            command: model.clone(),
            what,
        };
        let samples = self.header.samples;
        let mut bytes = Vec::with_capacity(4 + windows.len() * samples * 4);
        bytes.extend((windows.len() as u32).to_le_bytes());
        for window in windows {
            if window.len() != samples {
                return Err(fail(format!(
                    "takes windows of {samples} samples, got {}",
                    window.len()
                )));
            }
            bytes.extend(window.iter().flat_map(|x| x.to_le_bytes()));
        }
        let input = self
            .input
            .as_mut()
            .ok_or_else(|| fail("its input is closed".to_owned()))?;
        input
            .write_all(&bytes)
            .and_then(|()| input.flush())
            .map_err(|e| fail(format!("ended: {e}")))?;
        let dim: usize = self.header.outputs.iter().map(|output| output.dim).sum();
        let mut answer = vec![0u8; dim * 4];
        let mut all = Vec::with_capacity(windows.len());
        for _ in windows {
            self.output
                .read_exact(&mut answer)
                .map_err(|e| fail(format!("ended: {e}")))?;
            all.push(
                answer
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
            );
        }
        Ok(all)
    }
}

impl Drop for Teacher {
    fn drop(&mut self) {
        self.input = None;
        // It ends at the end of its input; a teacher that hangs instead is ended.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_teacher_that_echoes_gives_back_its_window() {
        // The header, then the window's bytes without the count.
        let header = r#"{"model":"echo","samples":2,"outputs":[{"name":"scores","dim":2}]}"#;
        let mut teacher =
            Teacher::start(&shell(&format!("echo '{header}'; tail -c +5 | head -c 8"))).unwrap();
        assert!(
            teacher
                .score(&[&[0.5]])
                .unwrap_err()
                .to_string()
                .contains("windows of 2")
        );
        let input = teacher.input.take();
        let mut bytes = 1u32.to_le_bytes().to_vec();
        bytes.extend([0.5f32, -1.0].iter().flat_map(|x| x.to_le_bytes()));
        input.unwrap().write_all(&bytes).unwrap();
        let mut answer = [0u8; 8];
        teacher.output.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..4], 0.5f32.to_le_bytes());
    }

    #[test]
    fn what_goes_wrong_names_the_command() {
        let error = Teacher::start(&["/nonexistent/teacher".to_owned()])
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("/nonexistent/teacher"), "{error}");
        let error = Teacher::start(&shell("echo hello"))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("JSON"), "{error}");
    }
}
