//! Keys of the metadata that models written here carry.

/// Version of the tool that wrote the model.
pub const VERSION: &str = "bbc.version";
/// The spec, as YAML.
pub const SPEC: &str = "bbc.spec";
/// The device it was measured for, or `unmeasured`.
pub const TARGET: &str = "bbc.target";
/// What the search has come to that found the network, as JSON; absent if it was not searched.
pub const VERDICT: &str = "bbc.verdict";
/// SHA-256 of the profile's text; absent if nothing was measured.
pub const PROFILE_SHA256: &str = "bbc.profile_sha256";
/// SHA-256 of the file of trained weights; absent if there was none.
pub const WEIGHTS_SHA256: &str = "bbc.weights_sha256";
/// Seed of the initial weights; absent if all are trained.
pub const SEED: &str = "bbc.seed";
/// How pictures are prepared, as JSON.
pub const PREPROCESS: &str = "bbc.preprocess";
/// Name, stride and channels of every output, as JSON.
pub const OUTPUTS: &str = "bbc.outputs";
/// What height and width of an image are multiples of where they are free, for strides to be exact: at other sizes
/// feature maps are rounded up. Absent if the size is fixed.
pub const SIZE_MULTIPLE: &str = "bbc.size_multiple";
/// What it computes in: `fp16`, `bf16` or `int8`; absent for single precision.
pub const PRECISION: &str = "bbc.precision";
