//! `bbc inspect`: a model as a table, from its file alone.

use std::path::{Path, PathBuf};

use bbc::backbone::Spec;
use bbc::onnx::proto::ModelProto;
use bbc::onnx::shapes::InputSizes;
use bbc::onnx::summary::{FileDim, Layer, Port, summarize_at};
use bbc::onnx::{self, check, keys};
use bbc::units::{Bytes, Flops};
use serde::Serialize;

use super::failure::{Explain, Failure};
use super::{Outcome, files, network, output};

/// Largest model that is read: what one protobuf message can hold.
pub(super) const MAX_MODEL: u64 = 1 << 31;

/// Options of `bbc inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// One line for each group of layers with the same first part of their names, instead of one for each layer
    #[arg(long)]
    stages: bool,
    /// Height and width that costs are told for, instead of the model's own
    #[arg(long, value_name = "SIZE", value_parser = network::image_size)]
    input_size: Option<[u32; 2]>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    model: String,
    file_bytes: u64,
    graph: String,
    producer: String,
    ir_version: i64,
    opsets: Vec<OpsetEntry>,
    inputs: Vec<PortEntry>,
    outputs: Vec<PortEntry>,
    parameters: u64,
    /// Height and width that costs are told for; absent where they are those of the inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    costs_at: Option<String>,
    /// At a batch of one; of the layers it is known of.
    flop: u64,
    layers_of_unknown_cost: usize,
    layers: Vec<Row>,
    metadata: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct OpsetEntry {
    domain: String,
    version: i64,
}

#[derive(Serialize)]
struct PortEntry {
    name: String,
    element_type: String,
    /// Sizes, or the names of free ones; absent if the file does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    dims: Option<Vec<serde_json::Value>>,
}

/// A layer or a group of layers.
#[derive(Serialize)]
struct Row {
    name: String,
    op: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Vec<u32>>,
    parameters: u64,
    flop: Option<u64>,
    min_bytes: Option<u64>,
    intensity_flop_per_byte: Option<f64>,
}

/// Reads a model and prints what it consists of.
pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    let (model, file_bytes) = read(&args.model)?;
    let size = args.input_size.or_else(|| nominal_size(&model));
    let report = Report::new(&args.model, file_bytes, &model, args.stages, size);
    if args.json {
        output::json(&report)?
    } else {
        output::result(&report.text())?
    }
    Ok(Outcome::Done)
}

/// Reads a model's file and checks its structure; with it the bytes of the file. Weights beside it are left alone.
pub(super) fn read(path: &Path) -> Result<(ModelProto, u64), Failure> {
    let bytes = files::read(path, MAX_MODEL)?;
    let file_bytes = bytes.len() as u64;
    Ok((checked(bytes, path)?, file_bytes))
}

/// The model in the bytes of this file, its structure checked.
pub(super) fn checked(bytes: Vec<u8>, path: &Path) -> Result<ModelProto, Failure> {
    let model = onnx::read(bytes.into()).doing(|| format!("cannot read `{}`", path.display()))?;
    check(&model).doing(|| format!("`{}` is not a valid model", path.display()))?;
    Ok(model)
}

/// Height and width in the spec of a model for images of any size.
fn nominal_size(model: &ModelProto) -> Option<[u32; 2]> {
    onnx::metadata(model, keys::SIZE_MULTIPLE)?;
    let spec = onnx::metadata(model, keys::SPEC).and_then(|text| Spec::read(text).ok())?;
    Some([spec.input.height, spec.input.width])
}

impl Report {
    fn new(path: &Path, file_bytes: u64, model: &ModelProto, stages: bool, size: Option<[u32; 2]>) -> Self {
        let summary = summarize_at(model, InputSizes { batch: None, image: size });
        let (flops, unknown) = summary.flops();
        let rows = if stages { groups(&summary.layers) } else { summary.layers.iter().map(Row::of).collect() };
        Self {
            schema: 1,
            model: path.display().to_string(),
            file_bytes,
            graph: summary.name,
            producer: summary.producer,
            ir_version: summary.ir_version,
            opsets: summary.opsets.into_iter().map(|(domain, version)| OpsetEntry { domain, version }).collect(),
            inputs: summary.inputs.into_iter().map(Into::into).collect(),
            outputs: summary.outputs.into_iter().map(Into::into).collect(),
            parameters: summary.parameters,
            costs_at: size.map(|[height, width]| format!("{height}x{width}")),
            flop: flops.0,
            layers_of_unknown_cost: unknown,
            layers: rows,
            metadata: summary.metadata.into_iter().map(|(key, value)| (key, value.into())).collect(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![format!(
            "{} from {}: {}, IR version {}, {}",
            named(output::printable(&self.graph)),
            named(output::printable(&self.producer)),
            Bytes(self.file_bytes),
            self.ir_version,
            self.opsets
                .iter()
                .map(|opset| format!("{} {}", output::printable(&opset.domain), opset.version))
                .collect::<Vec<_>>()
                .join(", ")
        )];
        let ports = |what, ports: &[PortEntry]| ports.iter().map(|p| format!("{what:7} {p}")).collect::<Vec<_>>();
        lines.extend(ports("input", &self.inputs));
        lines.extend(ports("output", &self.outputs));
        let unknown = match self.layers_of_unknown_cost {
            0 => String::new(),
            n => format!(", not counting {n} layers of unknown cost"),
        };
        let operations = match self.flop {
            0 if self.layers_of_unknown_cost > 0 => {
                "operations unknown, the file does not say the shapes (`--input-size` can)".to_owned()
            }
            flop => {
                let size = self.costs_at.as_ref().map(|size| format!(" and {size}")).unwrap_or_default();
                format!("{} at batch 1{size}{unknown}", Flops(flop))
            }
        };
        lines.push(format!("total   {operations}, {} parameters", output::count(self.parameters)));
        lines.push(String::new());
        let head = ["layer", "op", "window", "output", "operations", "parameters", "intensity"].map(ToOwned::to_owned);
        let rows: Vec<Vec<String>> = std::iter::once(head.to_vec()).chain(self.layers.iter().map(Row::cells)).collect();
        lines.push(output::table(&rows, &[0, 1, 2]));
        lines.extend(self.metadata.iter().map(|(key, value)| {
            let (key, value) = (output::printable(key), value.as_str().unwrap_or_default().trim_end());
            if value.contains('\n') {
                format!("{key}\n  {}", value.replace('\n', "\n  "))
            } else {
                format!("{key}  {value}")
            }
        }));
        lines.join("\n")
    }
}

fn named(text: String) -> String {
    if text.is_empty() { "(unnamed)".to_owned() } else { text }
}

impl From<Port> for PortEntry {
    fn from(port: Port) -> Self {
        let dim = |dim| match dim {
            FileDim::Fixed(size) => size.into(),
            FileDim::Free(name) => name.into(),
        };
        let dims = port.dims.map(|dims| dims.into_iter().map(dim).collect());
        Self { name: port.name, element_type: port.element_type, dims }
    }
}

impl std::fmt::Display for PortEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dim = |dim: &serde_json::Value| match dim {
            serde_json::Value::String(name) if name.is_empty() => "?".to_owned(),
            serde_json::Value::String(name) => output::printable(name),
            size => size.to_string(),
        };
        let dims = self.dims.as_ref().map(|dims| dims.iter().map(dim).collect::<Vec<_>>().join(","));
        write!(
            f,
            "{}: {}[{}]",
            output::printable(&self.name),
            self.element_type,
            dims.unwrap_or_else(|| "?".to_owned())
        )
    }
}

impl Row {
    fn of(layer: &Layer) -> Self {
        let window = layer.conv.map(|conv| {
            let [height, width] = conv.window;
            let stride = if conv.stride == [1, 1] { String::new() } else { format!(" s{}", conv.stride[0]) };
            let groups = if conv.groups == 1 { String::new() } else { format!(" g{}", conv.groups) };
            format!("{height}x{width}{stride}{groups}")
        });
        Self {
            name: layer.name.clone(),
            op: layer.op.clone(),
            window,
            output: layer.output.clone(),
            parameters: layer.parameters,
            flop: layer.flops.map(|flops| flops.0),
            min_bytes: layer.bytes.map(|bytes| bytes.0),
            intensity_flop_per_byte: layer.flops.zip(layer.bytes).map(|(flops, bytes)| (flops / bytes).0),
        }
    }

    fn cells(&self) -> Vec<String> {
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
        let shape = |shape: &Vec<u32>| shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        vec![
            output::printable(&self.name),
            output::printable(&self.op),
            self.window.clone().unwrap_or_default(),
            or_unknown(self.output.as_ref().map(shape)),
            or_unknown(self.flop.map(|flop| Flops(flop).to_string())),
            output::count(self.parameters),
            or_unknown(self.intensity_flop_per_byte.map(|i| bbc::units::FlopsPerByte(i).to_string())),
        ]
    }
}

/// Neighbouring layers whose names share their first part, added up. Names are parted by `/` or `.`.
fn groups(layers: &[Layer]) -> Vec<Row> {
    let key = |layer: &Layer| {
        let name = layer.name.trim_start_matches(['/', '.']);
        name.split(['/', '.']).next().unwrap_or(name).to_owned()
    };
    let mut rows: Vec<Row> = Vec::new();
    for layer in layers {
        let (name, row) = (key(layer), Row::of(layer));
        match rows.last_mut().filter(|last| last.name == name) {
            Some(last) => {
                let add = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.saturating_add(b));
                last.parameters = last.parameters.saturating_add(row.parameters);
                last.flop = add(last.flop, row.flop);
                last.min_bytes = add(last.min_bytes, row.min_bytes);
                last.output = row.output;
                let layers: usize = last.op.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(1);
                last.op = format!("{} layers", layers + 1);
                let rates = last.flop.zip(last.min_bytes);
                last.intensity_flop_per_byte = rates.map(|(flop, bytes)| (Flops(flop) / Bytes(bytes)).0);
            }
            None => rows.push(Row { name, op: "1 layer".to_owned(), window: None, ..row }),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use bbc::onnx::proto::{
        GraphProto, OperatorSetIdProto, StringStringEntryProto, TensorShapeProto, TypeProto, ValueInfoProto,
        tensor_shape_proto::{Dimension, dimension},
        type_proto,
    };

    use super::*;

    fn port(name: &str, dims: Vec<dimension::Value>) -> ValueInfoProto {
        let dim = |value| Dimension { value: Some(value), ..Dimension::default() };
        let shape = TensorShapeProto { dim: dims.into_iter().map(dim).collect() };
        let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(shape) };
        let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
        ValueInfoProto { name: Some(name.into()), r#type: Some(ty), ..ValueInfoProto::default() }
    }

    fn report(graph: GraphProto, domain: &str, metadata: &[(&str, &str)]) -> Report {
        let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        };
        let model = ModelProto {
            ir_version: Some(8),
            producer_name: Some("a\nproducer".into()),
            opset_import: vec![OperatorSetIdProto { domain: Some(domain.into()), version: Some(17) }],
            graph: Some(graph),
            metadata_props: metadata.iter().map(entry).collect(),
            ..ModelProto::default()
        };
        Report::new(Path::new("model.onnx"), 64, &model, false, None)
    }

    #[test]
    fn names_forge_no_lines() {
        let free = vec![dimension::Value::DimParam("N\ntotal   1 FLOP".into())];
        let graph = GraphProto {
            name: Some("net\ninput   forged".into()),
            input: vec![port("x\noutput  y", free)],
            ..GraphProto::default()
        };
        let metadata = [("key\nforged", "one"), ("lines", "one\ntwo\n")];
        insta::assert_snapshot!(report(graph, "a\nb", &metadata).text(), @r"
        net\u{a}input   forged from a\u{a}producer: 64 B, IR version 8, a\u{a}b 17
        input   x\u{a}output  y: float[N\u{a}total   1 FLOP]
        total   0 FLOP at batch 1, 0 parameters

        layer  op  window  output  operations  parameters  intensity

        key\u{a}forged  one
        lines
          one
          two
        ");
    }

    #[test]
    fn sizes_are_those_of_the_file() {
        let dims = [1 << 62, -1, 0, 3].map(dimension::Value::DimValue).to_vec();
        let graph = GraphProto { output: vec![port("y", dims)], ..GraphProto::default() };
        let report = report(graph, "", &[]);
        assert_eq!(report.outputs[0].to_string(), "y: float[4611686018427387904,-1,0,3]");
        assert_eq!(report.outputs[0].dims, Some(vec![(1i64 << 62).into(), (-1).into(), 0.into(), 3.into()]));
    }
}
