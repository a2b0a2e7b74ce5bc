//! Where figures come from: what can be compared with each other, and stands under one roof.

use std::fmt;

use super::{Instrument, InstrumentKind, Measurement};

/// One instrument as a whole. Figures of one source can be compared with each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The shaders, whichever is the fastest for a problem.
    Shaders,
    /// This execution provider of ONNX Runtime.
    Provider(String),
    /// A published table.
    Published(String),
}

impl Source {
    /// The one of this kind and name; a shader's name is that of its file, which makes no difference.
    pub fn new(kind: InstrumentKind, name: &str) -> Self {
        match kind {
            InstrumentKind::Shader => Self::Shaders,
            InstrumentKind::Provider => Self::Provider(name.to_owned()),
            InstrumentKind::Published => Self::Published(name.to_owned()),
        }
    }

    /// Where a measurement comes from.
    pub fn of(measurement: &Measurement) -> Self {
        measurement.instrument.source()
    }
}

impl Instrument {
    /// The source that it is part of.
    pub fn source(&self) -> Source {
        Source::new(self.kind, &self.name)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shaders => f.write_str("shaders"),
            Self::Provider(name) => write!(f, "{name} provider"),
            Self::Published(name) => f.write_str(name),
        }
    }
}
