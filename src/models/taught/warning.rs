//! What is odd about examples, in plain words: teaching goes on, and whoever teaches should know.

use std::fmt;

/// One thing that is odd.
#[derive(Debug, Clone, PartialEq)]
pub enum Warning {
    /// An example is unlike the others.
    Disagrees {
        /// Its file.
        file: String,
        /// The score that it gets when it is left out.
        score: f32,
    },
    /// Two examples are the same recording.
    Same {
        /// One file.
        file: String,
        /// The other.
        other: String,
    },
    /// An example is cut off at full scale.
    Clipped {
        /// Its file.
        file: String,
    },
    /// An example is very short.
    Short {
        /// Its file.
        file: String,
        /// Its length.
        seconds: f64,
    },
    /// A word is longer than what is compared of it.
    Long {
        /// Its file.
        file: String,
        /// Its length.
        seconds: f64,
    },
    /// The examples sound like people talking.
    Speech {
        /// Mean score of that.
        score: f32,
    },
    /// The examples are what a label means already.
    Label {
        /// The label.
        label: String,
        /// Its model.
        model: String,
        /// Its mean score.
        score: f32,
    },
    /// The examples are like a sound that was taught before.
    Taught {
        /// Its name.
        name: String,
        /// Its mean score.
        score: f32,
    },
    /// The threshold for the rate that was asked for leaves few of the examples.
    Weak {
        /// Examples that are recognised when left out.
        recognised: usize,
        /// Of how many.
        of: usize,
        /// The rate.
        target_fa_per_hour: f64,
    },
    /// The background of the embedder holds no speech.
    NoSpeech {
        /// The embedder.
        embedder: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Disagrees { file, score } => write!(
                f,
                "{file} is unlike the other examples (score {score:.2} when it is left out): listen to it, and leave it out or record it again"
            ),
            Warning::Same { file, other } => write!(
                f,
                "{file} and {other} are the same recording: give different ones, or it knows only that one"
            ),
            Warning::Clipped { file } => write!(
                f,
                "{file} is clipped: record it from further away or with less gain"
            ),
            Warning::Short { file, seconds } => {
                write!(f, "{file} is only {seconds:.2} s of sound")
            }
            Warning::Long { file, seconds } => write!(
                f,
                "{file} is {seconds:.1} s long, and 0.8 s in the middle of a word are compared: choose a shorter word, or cut the example"
            ),
            Warning::Speech { score } => write!(
                f,
                "the examples sound like speech ({score:.2}): people talking may set it off; for a spoken word use --kind word"
            ),
            Warning::Label {
                label,
                model,
                score,
            } => write!(
                f,
                "the examples are what {model} calls '{label}' already ({score:.2}): a rule for that label needs no teaching"
            ),
            Warning::Taught { name, score } => write!(
                f,
                "the examples are like '{name}', which was taught before ({score:.2}): both will be reported"
            ),
            Warning::Weak {
                recognised,
                of,
                target_fa_per_hour,
            } => write!(
                f,
                "at {target_fa_per_hour} false accepts an hour only {recognised} of {of} examples are recognised when left out: give clearer or more examples, or allow more false accepts (--target-fa-per-hour)"
            ),
            Warning::NoSpeech { embedder } => write!(
                f,
                "nothing but made sounds is known as background of {embedder}: expect more false accepts, most of all while people talk, or calibrate to the room ('hark calibrate')"
            ),
        }
    }
}
