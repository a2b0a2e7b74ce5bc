//! The `shader` instrument: convolutions in WGSL, run and timed on the adapters that wgpu finds.

mod adapter;
mod check;
mod data;
mod gpu;
mod prepare;
mod roof;
mod run;
mod timing;
mod variant;
mod winograd;

pub use adapter::{Adapter, AdapterKind, Capabilities, ProbeError, adapters};
pub use check::Checked;
pub use gpu::{Gpu, GpuError, OpenOptions};
pub use prepare::{Outcome, PrepareError, Prepared, Trial};
pub use roof::{Ceiling, CeilingError, ROOF_SOURCES};
pub use run::{ComputeError, MAX_PROBLEM};
pub use timing::{Dropped, Sample, Timing};
pub use variant::{SOURCES, Variant};
