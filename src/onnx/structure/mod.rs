//! Structure of a model from a stranger, aspect by aspect, before any runtime sees its bytes.
//!
//! [`examine`] reads a file of any size in little memory and says of every [`Aspect`] what does not hold. It is stricter
//! than [`check`](crate::onnx::check()), which stops at the first fault and asks only what the commands that look into
//! models need.

use std::fmt;
use std::io::{Read, Seek};
use std::path::Path;

use crate::onnx::check::{CheckError, IR_VERSIONS, OPSETS, within};
use crate::onnx::proto::{ModelProto, OperatorSetIdProto};
use crate::onnx::scan::{ScanError, Scanned, scan};
use crate::onnx::schema::{self, Span};

mod budget;
mod external;
mod functions;
mod nodes;

/// Most faults of one aspect that are kept.
const MAX_FAULTS: usize = 8;

/// Most bytes of a tensor if nothing else is asked for: 2 GiB.
pub const MAX_TENSOR_BYTES: u64 = 2 << 30;

/// What a model may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a tensor, stored or computed.
    pub max_tensor_bytes: u64,
    /// Whether there may be loops and branches.
    pub allow_control_flow: bool,
    /// Domains whose operators are not known and may be there all the same.
    pub domains: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_tensor_bytes: MAX_TENSOR_BYTES, allow_control_flow: false, domains: Vec::new() }
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aspect {
    /// The bytes are a model's.
    Format,
    /// IR version, operator sets, domains.
    Versions,
    /// Every operator is in its operator set, with the inputs, outputs and attributes it has there.
    Operators,
    /// What is used is defined, once, before it is used.
    Names,
    /// Shapes, element types and data of stored tensors.
    Tensors,
    /// Windows, strides, dilations, padding, groups.
    Windows,
    /// Sizes of tensors.
    Budget,
    /// Functions of the model's own.
    Functions,
    /// Loops and branches.
    ControlFlow,
    /// Data in other files.
    ExternalData,
}

impl Aspect {
    /// Every aspect, in the order they are reported in.
    pub const ALL: [Self; 10] = [
        Self::Format,
        Self::Versions,
        Self::Operators,
        Self::Names,
        Self::Tensors,
        Self::Windows,
        Self::Budget,
        Self::Functions,
        Self::ControlFlow,
        Self::ExternalData,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Versions => "versions",
            Self::Operators => "operators",
            Self::Names => "names",
            Self::Tensors => "tensors",
            Self::Windows => "windows",
            Self::Budget => "budget",
            Self::Functions => "functions",
            Self::ControlFlow => "control-flow",
            Self::ExternalData => "external-data",
        }
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is wrong with a model, and where.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Something that [`check`](crate::onnx::check()) finds as well.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The bytes are no model.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// An operator set is named twice.
    #[error("the operator set `{domain}` is imported twice, as {versions:?}")]
    ImportedTwice {
        /// Its domain.
        domain: String,
        /// The versions.
        versions: [i64; 2],
    },
    /// A newer operator set than any published.
    #[error("operator set `{domain}` {version} is not known; the newest is {newest}")]
    FutureOpset {
        /// Its domain.
        domain: String,
        /// The version.
        version: i64,
        /// The newest known.
        newest: i64,
    },
    /// An operator of a domain whose operators are not known.
    #[error("node `{node}` is `{op}` of the unknown domain `{domain}`")]
    UnknownDomain {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The domain.
        domain: String,
    },
    /// An operator of a domain that the model does not import.
    #[error("node `{node}` is `{op}` of the domain `{domain}`, which the model does not import")]
    NotImported {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The domain.
        domain: String,
    },
    /// An operator that its operator set does not have.
    #[error("node `{node}` is `{op}`, which {domain} {version} does not have{}", .newer.map_or_else(String::new, |n| format!("; {n} and later have it")))]
    NoSuchOperator {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The domain.
        domain: String,
        /// Version of the operator set.
        version: i64,
        /// The version that brought it.
        newer: Option<i64>,
    },
    /// A wrong number of inputs or outputs.
    #[error("node `{node}` ({op}) has {actual} {what}, it takes {allowed}")]
    Count {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// `inputs` or `outputs`.
        what: &'static str,
        /// How many it has.
        actual: usize,
        /// How many it may have.
        allowed: Span,
    },
    /// An attribute that the operator does not have.
    #[error("node `{node}` ({op}) has the attribute `{attribute}`, which its operator does not know")]
    UnknownAttribute {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The attribute.
        attribute: String,
    },
    /// An attribute of another type than the operator's.
    #[error("node `{node}` ({op}): attribute `{attribute}` is {actual}, it has to be {wanted}")]
    AttributeType {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The attribute.
        attribute: String,
        /// Its type.
        actual: String,
        /// The type it has to have.
        wanted: &'static str,
    },
    /// An attribute that is given twice.
    #[error("node `{node}` ({op}) has the attribute `{attribute}` twice")]
    AttributeTwice {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The attribute.
        attribute: String,
    },
    /// An attribute that has to be given and is not.
    #[error("node `{node}` ({op}) lacks the attribute `{attribute}`")]
    AttributeMissing {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The attribute.
        attribute: &'static str,
    },
    /// A value that is used before it is computed.
    #[error(
        "node `{node}` uses `{name}`, which is computed only after it: the nodes are out of order, or form a cycle"
    )]
    OutOfOrder {
        /// The node.
        node: String,
        /// The value.
        name: String,
    },
    /// A name of this length.
    #[error("a name of {length} bytes begins with `{start}`; at most {most} are taken")]
    LongName {
        /// Its length.
        length: usize,
        /// How it begins.
        start: String,
        /// The most.
        most: usize,
    },
    /// An input or output that nothing is said of.
    #[error("{what} {index} of the graph has no name")]
    Unnamed {
        /// `input` or `output`.
        what: &'static str,
        /// Which.
        index: usize,
    },
    /// An input or an output says an impossible size.
    #[error("`{name}` is declared with the size {size} in dimension {dim}")]
    DeclaredSize {
        /// The value.
        name: String,
        /// Which dimension.
        dim: usize,
        /// The size.
        size: i64,
    },
    /// Numbers of channels that do not go together.
    #[error("node `{node}`: {groups} groups do not divide {channels} {of}")]
    Groups {
        /// The node.
        node: String,
        /// Its groups.
        groups: i64,
        /// The channels.
        channels: u64,
        /// Which channels.
        of: &'static str,
    },
    /// A weight for another number of channels.
    #[error("node `{node}`: its weight takes {wanted} channels in {groups} groups, its input has {actual}")]
    Channels {
        /// The node.
        node: String,
        /// Its groups.
        groups: i64,
        /// Channels that the weight takes.
        wanted: u64,
        /// Channels that there are.
        actual: u64,
    },
    /// An attribute with a wrong number of values.
    #[error("node `{node}`: {attribute} has {actual} values, {wanted} are needed for its weight of {rank} dimensions")]
    Dimensions {
        /// The node.
        node: String,
        /// The attribute.
        attribute: String,
        /// Values it has.
        actual: usize,
        /// Values it has to have.
        wanted: usize,
        /// Dimensions of the weight.
        rank: usize,
    },
    /// A window of another size than the weight.
    #[error("node `{node}`: kernel_shape is {stated:?}, its weight is {actual:?}")]
    Kernel {
        /// The node.
        node: String,
        /// What the node says.
        stated: Vec<i64>,
        /// The weight's sizes.
        actual: Vec<u32>,
    },
    /// A tensor that is larger than allowed.
    #[error("{what} `{name}` takes {bytes} bytes, more than the {most} allowed")]
    TensorTooLarge {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
        /// Its bytes.
        bytes: u64,
        /// Bytes it may have.
        most: u64,
    },
    /// A tensor that is too large for any memory.
    #[error("node `{node}` ({op}) makes a tensor whose size overflows; {most} bytes are allowed")]
    Overflow {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// Bytes a tensor may have.
        most: u64,
    },
    /// A function that uses itself.
    #[error("function `{0}` uses itself, directly or through others")]
    Recursive(String),
    /// Functions that stand for too many nodes.
    #[error("function `{name}` stands for {nodes} nodes once all functions in it are replaced; {most} are allowed")]
    Expands {
        /// The function.
        name: String,
        /// Nodes it stands for.
        nodes: u64,
        /// The most.
        most: u64,
    },
    /// A loop or a branch.
    #[error("node `{node}` is `{op}`; loops and branches are taken only with `--allow-control-flow`")]
    ControlFlow {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
    },
    /// Loops and branches in each other.
    #[error("node `{node}` ({op}) lies {depth} loops and branches deep; {most} are allowed")]
    NestedTooDeep {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// How deep.
        depth: usize,
        /// The most.
        most: usize,
    },
    /// What is said of a tensor's external data makes no sense.
    #[error("tensor `{name}`: its external data has {what}")]
    ExternalEntry {
        /// The tensor.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// External data that is not there, or not a file of the model's own.
    #[error("tensor `{name}` keeps its data at `{location}`: {what}")]
    ExternalFile {
        /// The tensor.
        name: String,
        /// Where.
        location: String,
        /// What is wrong.
        what: String,
    },
    /// External data outside its file.
    #[error("tensor `{name}` takes bytes {offset} to {end} of `{location}`, which has {length}")]
    ExternalRange {
        /// The tensor.
        name: String,
        /// Where.
        location: String,
        /// The first byte.
        offset: u64,
        /// The byte behind the last.
        end: u64,
        /// Length of the file.
        length: u64,
    },
}

/// What was found out about a model's structure.
#[derive(Debug)]
pub struct Examined {
    /// What was read; `None` if the bytes are no model.
    pub scanned: Option<Scanned>,
    faults: Vec<(Aspect, Fault)>,
    /// How many more faults each aspect has.
    more: Vec<(Aspect, usize)>,
}

impl Examined {
    /// The first faults of an aspect.
    pub fn faults(&self, aspect: Aspect) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(move |(of, _)| *of == aspect).map(|(_, fault)| fault)
    }

    /// How many faults of an aspect there are besides [`Self::faults`].
    pub fn more(&self, aspect: Aspect) -> usize {
        self.more.iter().find(|(of, _)| *of == aspect).map_or(0, |(_, n)| *n)
    }

    /// Whether nothing is wrong.
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Faults that are collected.
#[derive(Debug, Default)]
struct Faults {
    found: Vec<(Aspect, Fault)>,
    more: Vec<(Aspect, usize)>,
}

impl Faults {
    fn add(&mut self, aspect: Aspect, fault: impl Into<Fault>) {
        if self.found.iter().filter(|(of, _)| *of == aspect).count() < MAX_FAULTS {
            self.found.push((aspect, fault.into()));
            return;
        }
        match self.more.iter_mut().find(|(of, _)| *of == aspect) {
            Some((_, n)) => *n += 1,
            None => self.more.push((aspect, 1)),
        }
    }

    fn take<E: Into<Fault>>(&mut self, aspect: Aspect, result: Result<(), E>) {
        if let Err(fault) = result {
            self.add(aspect, fault);
        }
    }
}

/// Looks at every aspect of a model's file; `folder` is where its external data lies.
///
/// Nothing is executed, and no data of tensors is read. Memory and time are bounded, whatever the bytes.
pub fn examine(file: impl Read + Seek, folder: &Path, limits: &Limits) -> Examined {
    let mut faults = Faults::default();
    let scanned = match scan(file) {
        Ok(scanned) => Some(scanned),
        Err(error) => {
            faults.add(Aspect::Format, error);
            None
        }
    };
    if let Some(Scanned { model, tensors, .. }) = &scanned {
        versions(model, &mut faults);
        nodes::check(model, limits, &mut faults);
        functions::check(model, &mut faults);
        for stored in tensors {
            match crate::onnx::check::check_stored(&stored.proto, &stored.held) {
                Ok(bytes) => budget::stored(stored, bytes, limits, &mut faults),
                Err(error @ CheckError::Location { .. }) => faults.add(Aspect::ExternalData, error),
                Err(error) => faults.add(Aspect::Tensors, error),
            }
        }
        external::check(tensors, folder, &mut faults);
        // Shapes are worked out from what was found to make sense.
        if faults.found.is_empty() {
            budget::inferred(model, limits, &mut faults);
        }
    }
    Examined { scanned, faults: faults.found, more: faults.more }
}

fn versions(model: &ModelProto, faults: &mut Faults) {
    faults.take(Aspect::Versions, within("IR version", model.ir_version(), IR_VERSIONS));
    let has_default = imports(&model.opset_import, faults);
    if !has_default {
        faults.add(Aspect::Versions, CheckError::NoOpset);
    }
    for function in &model.functions {
        imports(&function.opset_import, faults);
    }
}

/// Checks the versions of operator sets; whether the default one is among them.
fn imports(imports: &[OperatorSetIdProto], faults: &mut Faults) -> bool {
    let mut seen: Vec<(&str, i64)> = Vec::new();
    for import in imports {
        let (domain, version) = (schema::named(import.domain()), import.version());
        if let Some((_, earlier)) = seen.iter().find(|(other, _)| *other == domain) {
            let domain = domain.to_owned();
            faults.add(Aspect::Versions, Fault::ImportedTwice { domain, versions: [*earlier, version] });
            continue;
        }
        // Comparing every pair is affordable for as many as there are domains.
        if seen.len() < 64 {
            seen.push((domain, version));
        }
        if domain == schema::DEFAULT_DOMAIN {
            faults.take(Aspect::Versions, within("opset", version, OPSETS));
        } else if let Some(newest) = schema::newest(domain)
            && (version > newest || version < 1)
            && !domain.starts_with("com.m")
        {
            faults.add(Aspect::Versions, Fault::FutureOpset { domain: domain.to_owned(), version, newest });
        }
    }
    seen.iter().any(|(domain, _)| *domain == schema::DEFAULT_DOMAIN)
}
