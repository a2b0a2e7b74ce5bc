//! Models that mean harm, or are broken in ways that have brought runtimes down: one for each case.
//!
//! Everything is made here, from nothing but the messages of ONNX; `tests/hostile.rs` compares it with what is committed.

use bbc::onnx::proto::attribute_proto::AttributeType;
use bbc::onnx::proto::tensor_proto::{DataLocation, DataType};
use bbc::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use bbc::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use prost::Message;

/// What lies beside a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing.
    Nothing,
    /// A file `weights.data` of so many bytes.
    Data(usize),
    /// `weights.data` is a symbolic link to a file outside.
    Symlink,
    /// `link` is a symbolic link to a folder outside, which has `weights.data`.
    FolderSymlink,
    /// `weights.data` has another name outside.
    Hardlink,
    /// `weights.data` is a folder.
    Folder,
}

/// A model, the check that refuses it, and part of what that says.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) check: &'static str,
    pub(crate) says: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) beside: Beside,
    /// Options that are given.
    pub(crate) options: &'static str,
}

type Change = fn(&mut ModelProto);

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, check, says, bytes, beside, options| {
        cases.push(Case { name, check, says, bytes, beside, options });
    };
    for (name, says, bytes) in unreadable() {
        add(name, "format", says, bytes, Beside::Nothing, "");
    }
    for (name, check, says, change) in changed() {
        let mut model = base();
        change(&mut model);
        add(name, check, says, model.encode_to_vec(), Beside::Nothing, "");
    }
    let nested = nested_ifs(20).encode_to_vec();
    add(
        "nested-ifs-allowed",
        "control-flow",
        "`if6` (If) lies 7 loops and branches deep; 6 are allowed",
        nested,
        Beside::Nothing,
        "--allow-control-flow",
    );
    for (name, says, entries, beside) in external() {
        add(name, "external-data", says, with_external(&entries).encode_to_vec(), beside, "");
    }
    cases
}

fn changed() -> Vec<(&'static str, &'static str, &'static str, Change)> {
    vec![
        ("ir-version-99", "versions", "IR version 99 is not supported", |m| m.ir_version = Some(99)),
        ("opset-99", "versions", "opset 99 is not supported", |m| m.opset_import[0].version = Some(99)),
        ("opset-none", "versions", "does not import the default operator set", |m| m.opset_import.clear()),
        ("opset-twice", "versions", "`ai.onnx` is imported twice, as [17, 9]", |m| {
            m.opset_import.push(opset("ai.onnx", 9))
        }),
        ("opset-ml-99", "versions", "operator set `ai.onnx.ml` 99 is not known", |m| {
            m.opset_import.push(opset("ai.onnx.ml", 99));
        }),
        ("domain-unknown", "versions", "`Steal` of the unknown domain `com.evil`", |m| {
            m.opset_import.push(opset("com.evil", 1));
            let node = NodeProto { domain: Some("com.evil".into()), ..node("steal", "Steal", &["x"], &["z"]) };
            graph(m).node.push(node);
        }),
        ("operator-unknown", "operators", "node `f` is `Frobnicate`, which ai.onnx 17 does not have", |m| {
            graph(m).node.push(node("f", "Frobnicate", &["x"], &["z"]));
        }),
        (
            "operator-of-a-newer-opset",
            "operators",
            "`Gelu`, which ai.onnx 17 does not have; 20 and later have it",
            |m| {
                graph(m).node.push(node("g", "Gelu", &["x"], &["z"]));
            },
        ),
        ("operator-removed", "operators", "`Upsample`, which ai.onnx 17 does not have", |m| {
            graph(m).node.push(node("u", "Upsample", &["x", "w"], &["z"]));
        }),
        ("inputs-too-many", "operators", "`conv` (Conv) has 5 inputs, it takes 2 to 3", |m| {
            graph(m).node[0].input = ["x", "w", "x", "x", "x"].map(String::from).to_vec();
        }),
        ("inputs-too-few", "operators", "`conv` (Conv) has 1 inputs, it takes 2 to 3", |m| {
            graph(m).node[0].input.truncate(1);
        }),
        ("outputs-too-many", "operators", "`conv` (Conv) has 3 outputs, it takes 1", |m| {
            graph(m).node[0].output = ["y", "p", "q"].map(String::from).to_vec();
        }),
        ("attribute-unknown", "operators", "attribute `shell`, which its operator does not know", |m| {
            graph(m).node[0].attribute.push(ints("shell", &[1]));
        }),
        (
            "attribute-of-another-type",
            "operators",
            "attribute `strides` is a float, it has to be a list of integers",
            |m| {
                graph(m).node[0].attribute.push(AttributeProto {
                    name: Some("strides".into()),
                    r#type: Some(AttributeType::Float.into()),
                    f: Some(1.0),
                    ..AttributeProto::default()
                });
            },
        ),
        ("attribute-with-two-values", "operators", "attribute `group` is a list of integers as well", |m| {
            let mut attribute = int("group", 1);
            attribute.ints = vec![0];
            graph(m).node[0].attribute.push(attribute);
        }),
        ("attribute-twice", "operators", "has the attribute `group` twice", |m| {
            graph(m).node[0].attribute.extend([int("group", 1), int("group", 3)]);
        }),
        ("attribute-missing", "operators", "`c` (Concat) lacks the attribute `axis`", |m| {
            graph(m).node.push(node("c", "Concat", &["x", "x"], &["z"]));
        }),
        ("name-undefined", "names", "node `conv` uses `nothing`, which nothing before it defines", |m| {
            graph(m).node[0].input[0] = "nothing".into();
        }),
        ("name-defined-twice", "names", "`y` is defined twice", |m| {
            graph(m).node.push(node("again", "Relu", &["x"], &["y"]));
        }),
        ("initializer-defined-twice", "names", "`w` is defined twice", |m| {
            let again = graph(m).initializer[0].clone();
            graph(m).initializer.push(again);
        }),
        ("cycle", "names", "node `a` uses `q`, which is computed only after it", |m| {
            graph(m).node.extend([node("a", "Relu", &["q"], &["p"]), node("b", "Relu", &["p"], &["q"])]);
        }),
        ("cycle-of-one", "names", "node `a` uses `p`, which is computed only after it", |m| {
            graph(m).node.push(node("a", "Relu", &["p"], &["p"]));
        }),
        ("output-missing", "names", "output `nowhere` is computed by no node", |m| {
            graph(m).output[0].name = Some("nowhere".into());
        }),
        ("input-unnamed", "names", "input 0 of the graph has no name", |m| {
            graph(m).input.insert(0, value("", &[1]));
        }),
        // CVE-2024-27319: a message of 2048 bytes or more was cut without an end.
        ("cve-2024-27319-long-name", "names", "a name of 2100 bytes begins with `AAAA", |m| {
            graph(m).node[0].name = Some("A".repeat(2100));
        }),
        ("shape-negative", "tensors", "tensor `w` has the impossible shape [-4, 3, 3, 3]", |m| {
            graph(m).initializer[0].dims[0] = -4;
        }),
        ("shape-overflows", "tensors", "tensor `w` has the impossible shape [4611686018427387904, 3, 3, 3]", |m| {
            graph(m).initializer[0].dims[0] = 1 << 62;
        }),
        ("shape-wraps-to-its-data", "tensors", "impossible shape [4, 27, 4294967296, 4294967296]", |m| {
            graph(m).initializer[0].dims = vec![4, 27, 1 << 32, 1 << 32];
        }),
        ("raw-data-too-short", "tensors", "tensor `w` has 428 bytes of data, its shape needs 432", |m| {
            let raw = graph(m).initializer[0].raw_data.take().unwrap();
            graph(m).initializer[0].raw_data = Some(raw.slice(..428));
        }),
        ("raw-data-too-long", "tensors", "tensor `w` has 436 bytes of data, its shape needs 432", |m| {
            graph(m).initializer[0].raw_data = Some(vec![0; 436].into());
        }),
        ("raw-data-missing", "tensors", "tensor `w` has 0 bytes of data, its shape needs 432", |m| {
            graph(m).initializer[0].raw_data = None;
        }),
        ("data-in-two-places", "tensors", "tensor `w` has its data in more than one place", |m| {
            graph(m).initializer[0].float_data = vec![1.0; 108];
        }),
        ("element-type-unknown", "tensors", "tensor `w` has the unknown element type 77", |m| {
            graph(m).initializer[0].data_type = Some(77);
        }),
        ("strings-missing", "tensors", "tensor `s` has 1 strings, its shape needs 1000000", |m| {
            let strings = TensorProto {
                name: Some("s".into()),
                dims: vec![1_000_000],
                data_type: Some(DataType::String.into()),
                string_data: vec!["one".into()],
                ..TensorProto::default()
            };
            graph(m).initializer.push(strings);
        }),
        ("halves-missing", "tensors", "tensor `h` has 4 bytes of data, its shape needs 8", |m| {
            let halves = TensorProto {
                name: Some("h".into()),
                dims: vec![4],
                data_type: Some(DataType::Float16.into()),
                int32_data: vec![1, 2],
                ..TensorProto::default()
            };
            graph(m).initializer.push(halves);
        }),
        ("attribute-tensor-too-short", "tensors", "tensor `v` has 4 bytes of data, its shape needs 4000", |m| {
            let tensor = TensorProto { raw_data: Some(vec![0; 4].into()), ..tensor("v", &[1000]) };
            constant(m, tensor);
        }),
        ("input-size-negative", "tensors", "`x` is declared with the size -7 in dimension 1", |m| {
            graph(m).input[0] = value("x", &[1, -7, 8, 8]);
        }),
        // Older runtimes divide by the stride: SIGFPE.
        ("stride-0", "windows", "node `conv`: strides is 0, it has to be 1 or more", |m| {
            graph(m).node[0].attribute.push(ints("strides", &[0, 1]));
        }),
        ("stride-negative", "windows", "node `conv`: strides is -1, it has to be 1 or more", |m| {
            graph(m).node[0].attribute.push(ints("strides", &[1, -1]));
        }),
        ("pool-stride-0", "windows", "node `pool`: strides is 0, it has to be 1 or more", |m| {
            let attribute = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[0, 0])];
            graph(m).node.push(NodeProto { attribute, ..node("pool", "MaxPool", &["x"], &["z"]) });
        }),
        ("dilation-0", "windows", "node `conv`: dilations is 0, it has to be 1 or more", |m| {
            graph(m).node[0].attribute.push(ints("dilations", &[0, 0]));
        }),
        ("window-0", "windows", "node `conv`: kernel_shape is 0, it has to be 1 or more", |m| {
            graph(m).node[0].attribute.push(ints("kernel_shape", &[0, 0]));
        }),
        ("group-0", "windows", "node `conv`: group is 0, it has to be 1 or more", |m| {
            graph(m).node[0].attribute.push(int("group", 0));
        }),
        ("group-does-not-divide", "windows", "node `conv`: 3 groups do not divide 4 output channels", |m| {
            graph(m).node[0].attribute.push(int("group", 3));
        }),
        ("channels-of-another-input", "windows", "its weight takes 6 channels in 2 groups, its input has 3", |m| {
            graph(m).node[0].attribute.push(int("group", 2));
        }),
        ("pads-negative", "windows", "node `conv`: pads is -5, it has to be 0 or more", |m| {
            graph(m).node[0].attribute.push(ints("pads", &[-5, 0, 0, 0]));
        }),
        ("pads-too-few", "windows", "pads has 2 values, 4 are needed for its weight of 4 dimensions", |m| {
            graph(m).node[0].attribute.push(ints("pads", &[1, 1]));
        }),
        ("window-of-another-weight", "windows", "kernel_shape is [5, 5], its weight is [3, 3]", |m| {
            graph(m).node[0].attribute.push(ints("kernel_shape", &[5, 5]));
        }),
        ("block-0", "windows", "node `d`: blocksize is 0, it has to be 1 or more", |m| {
            graph(m)
                .node
                .push(NodeProto { attribute: vec![int("blocksize", 0)], ..node("d", "DepthToSpace", &["x"], &["z"]) });
        }),
        ("pads-huge", "budget", "the padded input of `conv` takes", |m| {
            graph(m).node[0].attribute.push(ints("pads", &[2_147_483_647; 4]));
        }),
        ("pad-bomb", "budget", "the result `z` takes", |m| {
            list(m, "pads", &[0, 0, 100_000, 100_000, 0, 0, 0, 0]);
            graph(m).node.push(node("p", "Pad", &["x", "pads"], &["z"]));
        }),
        ("constant-of-shape-bomb", "budget", "the result `z` takes 4000000000000 bytes", |m| {
            list(m, "sizes", &[1_000_000, 1_000_000]);
            graph(m).node.push(node("c", "ConstantOfShape", &["sizes"], &["z"]));
        }),
        (
            "constant-of-shape-overflows",
            "budget",
            "node `c` (ConstantOfShape) makes a tensor whose size overflows",
            |m| {
                list(m, "sizes", &[1 << 62]);
                graph(m).node.push(node("c", "ConstantOfShape", &["sizes"], &["z"]));
            },
        ),
        ("expand-bomb", "budget", "the result `z` takes", |m| {
            list(m, "sizes", &[100_000, 3, 8, 8000]);
            graph(m).node.push(node("e", "Expand", &["one", "sizes"], &["z"]));
            let one = TensorProto { raw_data: Some(vec![0; 4].into()), ..tensor("one", &[1]) };
            graph(m).initializer.push(one);
        }),
        ("tile-bomb", "budget", "the result `z` takes", |m| {
            list(m, "times", &[1, 1, 100_000, 100_000]);
            graph(m).node.push(node("t", "Tile", &["x", "times"], &["z"]));
        }),
        ("range-bomb", "budget", "the result `z` takes", |m| {
            for (name, n) in [("start", 0), ("end", 4_000_000_000), ("step", 1)] {
                scalar(m, name, n);
            }
            graph(m).node.push(node("r", "Range", &["start", "end", "step"], &["z"]));
        }),
        ("resize-bomb", "budget", "the result `z` takes", |m| {
            list(m, "sizes", &[1, 3, 200_000, 200_000]);
            graph(m).node.push(node("r", "Resize", &["x", "", "", "sizes"], &["z"]));
        }),
        ("bombs-in-a-row", "budget", "the result `t7` takes", |m| {
            list(m, "times", &[1, 1, 4, 4]);
            for n in 0..8 {
                let from = if n == 0 { "x".to_owned() } else { format!("t{}", n - 1) };
                graph(m).node.push(node(&format!("n{n}"), "Tile", &[&from, "times"], &[&format!("t{n}")]));
            }
        }),
        ("input-huge", "budget", "input `x` takes", |m| {
            graph(m).input[0] = value("x", &[1, 3, 100_000, 100_000]);
        }),
        ("function-recursive", "functions", "function `f` uses itself", |m| {
            function(m, "f", &["f"]);
            call(m, "f");
        }),
        ("functions-recursive-together", "functions", "uses itself, directly or through others", |m| {
            function(m, "f", &["g"]);
            function(m, "g", &["f"]);
            call(m, "f");
        }),
        ("functions-of-a-billion-nodes", "functions", "function `f00` stands for", |m| {
            for n in 0..25 {
                let next = format!("f{:02}", n + 1);
                let calls = [next.as_str(), next.as_str()];
                function(m, &format!("f{n:02}"), if n < 24 { &calls } else { &[] });
            }
            call(m, "f00");
        }),
        ("loop-of-2-to-the-62", "control-flow", "node `loop` is `Loop`", |m| {
            scalar(m, "trips", 1 << 62);
            graph(m).node.push(NodeProto {
                attribute: vec![body(
                    "body",
                    GraphProto {
                        input: vec![value("i", &[]), value("go", &[])],
                        node: vec![node("again", "Identity", &["go"], &["on"])],
                        output: vec![value("on", &[])],
                        ..GraphProto::default()
                    },
                )],
                ..node("loop", "Loop", &["trips", ""], &["z"])
            });
        }),
        ("scan", "control-flow", "node `scan` is `Scan`", |m| {
            let inner = GraphProto {
                input: vec![value("i", &[3])],
                node: vec![node("again", "Identity", &["i"], &["o"])],
                output: vec![value("o", &[3])],
                ..GraphProto::default()
            };
            let attribute = vec![body("body", inner), int("num_scan_inputs", 1)];
            graph(m).node.push(NodeProto { attribute, ..node("scan", "Scan", &["x"], &["z"]) });
        }),
        ("nested-ifs", "control-flow", "node `if0` is `If`", |m| *m = nested_ifs(20)),
    ]
}

/// Files that are no models.
fn unreadable() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let whole = base().encode_to_vec();
    let mut deep = Vec::new();
    for _ in 0..150 {
        for tag in [0x32, 0x2a, 0x0a] {
            deep = delimited(tag, &deep);
        }
    }
    let mut types = Vec::new();
    for _ in 0..250 {
        // A sequence of a sequence of …
        types = delimited(0x22, &delimited(0x0a, &types));
    }
    let typed = delimited(0x3a, &delimited(0x5a, &delimited(0x12, &types)));
    let mut overlong = vec![0x3a];
    prost::encoding::encode_varint(1 << 62, &mut overlong);
    let tensor = [&[0x08, 1, 0x10, 1][..], &delimited(0x4a, &[0; 4]), &delimited(0x4a, &[0; 8])].concat();
    let raw_twice = [&[0x08, 8][..], &delimited(0x3a, &delimited(0x2a, &tensor))].concat();
    let bad_name = [&[0x08, 8][..], &delimited(0x3a, &delimited(0x12, &[0xff, 0xfe]))].concat();
    vec![
        ("empty", "the file is empty", Vec::new()),
        ("cut-short", "is longer than what it is in", whole[..whole.len() / 2].to_vec()),
        ("script", "begins no field of a message", b"#!/bin/sh\nrm -rf ~\n".to_vec()),
        (
            "pickle",
            "it is not an ONNX model",
            b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n(S'id'\ntR.".to_vec(),
        ),
        ("longer-than-the-file", "is longer than what it is in", overlong),
        ("number-without-end", "it is not an ONNX model", [&[0x08][..], &[0xff; 64]].concat()),
        ("groups-in-groups", "begins no field of a message", vec![0x3b; 3000]),
        ("graphs-in-graphs", "it is nested more than 100 messages deep", delimited(0x3a, &deep)),
        ("types-in-types", "recursion limit", typed),
        ("two-graphs", "field 7 of a model is given twice", [whole.clone(), delimited(0x3a, &[])].concat()),
        ("raw-data-twice", "field 9 of a tensor is given twice", raw_twice),
        ("name-of-no-text", "UTF-8", bad_name),
        ("no-graph", "it has no graph", vec![0x08, 8]),
        ("graph-is-a-number", "it is not an ONNX model", vec![0x08, 8, 0x38, 5]),
    ]
}

type Entries = Vec<(&'static str, &'static str)>;

fn external() -> Vec<(&'static str, &'static str, Entries, Beside)> {
    let at = |location| vec![("location", location)];
    let nothing = Beside::Nothing;
    vec![
        (
            "cve-2022-25882-parent-folder",
            "keeps its data at `../../../etc/passwd`, which is not a plain path",
            at("../../../etc/passwd"),
            nothing,
        ),
        (
            "cve-2024-27318-hidden-parent-folder",
            "keeps its data at `a/../../secret`, which is not a plain path",
            at("a/../../secret"),
            nothing,
        ),
        (
            "cve-2025-51480-absolute-path",
            "keeps its data at `/tmp/overwritten`, which is not a plain path",
            at("/tmp/overwritten"),
            nothing,
        ),
        ("external-drive", "which is not a plain path", at("C:/Windows/win.ini"), nothing),
        ("external-backslashes", "which is not a plain path", at("..\\..\\secret"), nothing),
        ("external-nul", "which is not a plain path", at("weights.data\0.txt"), nothing),
        ("external-nowhere", "keeps its data at ``, which is not a plain path", Vec::new(), nothing),
        (
            "external-memory-address",
            "keeps its data at `*/_ORT_MEM_ADDR_/*`, which is not a plain path",
            vec![("location", "*/_ORT_MEM_ADDR_/*"), ("offset", "140737488355328"), ("length", "432")],
            nothing,
        ),
        // CVE-2026-34445: any key became an attribute of an object; sizes were believed.
        (
            "cve-2026-34445-unknown-key",
            "has the unknown entry `__class__`",
            vec![("location", "weights.data"), ("__class__", "x")],
            Beside::Data(432),
        ),
        (
            "cve-2026-34445-huge-length",
            "has a length of 9000000000000000000 bytes, its shape needs 432",
            vec![("location", "weights.data"), ("length", "9000000000000000000")],
            Beside::Data(432),
        ),
        (
            "external-offset-negative",
            "has the offset `-1`",
            vec![("location", "weights.data"), ("offset", "-1")],
            Beside::Data(432),
        ),
        (
            "external-offset-overflows",
            "takes bytes 9223372036854775807 to 9223372036854776239 of `weights.data`, which has 432",
            vec![("location", "weights.data"), ("offset", "9223372036854775807")],
            Beside::Data(432),
        ),
        (
            "external-offset-no-number",
            "has the offset `0x10`",
            vec![("location", "weights.data"), ("offset", "0x10")],
            Beside::Data(432),
        ),
        (
            "external-outside-its-file",
            "takes bytes 4 to 436 of `weights.data`, which has 432",
            vec![("location", "weights.data"), ("offset", "4")],
            Beside::Data(432),
        ),
        (
            "external-location-twice",
            "has `location` twice",
            vec![("location", "weights.data"), ("location", "../secret")],
            Beside::Data(432),
        ),
        ("external-missing", "there is no such file", at("weights.data"), nothing),
        ("external-folder", "it is no regular file", at("weights.data"), Beside::Folder),
        ("external-symbolic-link", "`weights.data` is a symbolic link", at("weights.data"), Beside::Symlink),
        // CVE-2026-27489: only the last part of a path was looked at.
        ("cve-2026-27489-linked-folder", "`link` is a symbolic link", at("link/weights.data"), Beside::FolderSymlink),
        ("external-hard-link", "it is a hard link", at("weights.data"), Beside::Hardlink),
    ]
}

/// A NumPy archive whose entries would leave their folder if they were unpacked, as in CVE-2024-5187.
pub(crate) fn traversal_archive() -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    for name in ["../../escaped.npy", "/tmp/escaped.npy"] {
        archive.start_file(name, options).unwrap();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
        let padded = format!("{header:<117}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((padded.len() as u16).to_le_bytes());
        bytes.extend(padded.bytes());
        bytes.extend(1f32.to_le_bytes());
        std::io::Write::write_all(&mut archive, &bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A 3x3 convolution of three channels to four, on which nothing is wrong.
pub(crate) fn base() -> ModelProto {
    let weights = TensorProto { raw_data: Some(vec![0; 432].into()), ..tensor("w", &[4, 3, 3, 3]) };
    let graph = GraphProto {
        name: Some("graph".into()),
        node: vec![node("conv", "Conv", &["x", "w"], &["y"])],
        initializer: vec![weights],
        input: vec![value("x", &[1, 3, 8, 8])],
        output: vec![ValueInfoProto { name: Some("y".into()), ..value("y", &[1, 4, 6, 6]) }],
        ..GraphProto::default()
    };
    ModelProto { ir_version: Some(8), opset_import: vec![opset("", 17)], graph: Some(graph), ..ModelProto::default() }
}

fn with_external(entries: &[(&str, &str)]) -> ModelProto {
    let mut model = base();
    let tensor = &mut graph(&mut model).initializer[0];
    tensor.raw_data = None;
    tensor.data_location = Some(DataLocation::External.into());
    let entry =
        |(key, value): &(&str, &str)| StringStringEntryProto { key: Some((*key).into()), value: Some((*value).into()) };
    tensor.external_data = entries.iter().map(entry).collect();
    model
}

/// Branches in branches: runtimes that look through both at every level take 2 to the power of so many steps.
fn nested_ifs(levels: usize) -> ModelProto {
    let mut inner = GraphProto {
        node: vec![node("end", "Identity", &["x"], &["end"])],
        output: vec![value("end", &[1])],
        ..GraphProto::default()
    };
    for level in (0..levels).rev() {
        let (name, result) = (format!("if{level}"), format!("r{level}"));
        let other = GraphProto {
            node: vec![node("", "Identity", &["x"], &[&format!("e{level}")])],
            output: vec![value(&format!("e{level}"), &[1])],
            ..GraphProto::default()
        };
        let attribute = vec![body("then_branch", inner), body("else_branch", other)];
        inner = GraphProto {
            node: vec![NodeProto { attribute, ..node(&name, "If", &["go"], &[&result]) }],
            output: vec![value(&result, &[1])],
            ..GraphProto::default()
        };
    }
    let mut model = base();
    let go = TensorProto {
        name: Some("go".into()),
        dims: vec![],
        data_type: Some(DataType::Bool.into()),
        raw_data: Some(vec![1].into()),
        ..TensorProto::default()
    };
    graph(&mut model).initializer.push(go);
    graph(&mut model).node.extend(inner.node);
    model
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) }
}

fn node(name: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        name: Some(name.into()),
        op_type: Some(op.into()),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: outputs.iter().map(ToString::to_string).collect(),
        ..NodeProto::default()
    }
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&n: &i64| Dimension { value: Some(dimension::Value::DimValue(n)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(DataType::Float.into()), shape: Some(shape) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(ty), ..ValueInfoProto::default() }
}

/// A tensor of single precision without its data.
fn tensor(name: &str, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float.into()),
        ..TensorProto::default()
    }
}

fn list(model: &mut ModelProto, name: &str, values: &[i64]) {
    let list = TensorProto {
        name: Some(name.into()),
        dims: vec![values.len() as i64],
        data_type: Some(DataType::Int64.into()),
        int64_data: values.to_vec(),
        ..TensorProto::default()
    };
    graph(model).initializer.push(list);
}

fn scalar(model: &mut ModelProto, name: &str, value: i64) {
    list(model, name, &[value]);
    graph(model).initializer.last_mut().unwrap().dims.clear();
}

/// A node that is a constant.
fn constant(model: &mut ModelProto, tensor: TensorProto) {
    let value = AttributeProto {
        name: Some("value".into()),
        r#type: Some(AttributeType::Tensor.into()),
        t: Some(tensor),
        ..AttributeProto::default()
    };
    graph(model).node.push(NodeProto { attribute: vec![value], ..node("constant", "Constant", &[], &["z"]) });
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Int.into()),
        i: Some(value),
        ..AttributeProto::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Ints.into()),
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

fn body(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Graph.into()),
        g: Some(graph),
        ..AttributeProto::default()
    }
}

/// A function that hands what it is given through these others, or through nothing.
fn function(model: &mut ModelProto, name: &str, calls: &[&str]) {
    let mut nodes: Vec<NodeProto> = calls
        .iter()
        .enumerate()
        .map(|(n, call)| NodeProto { domain: Some("own".into()), ..node("", call, &["a"], &[&format!("t{n}")]) })
        .collect();
    nodes.push(node("", "Identity", &["a"], &["b"]));
    model.functions.push(FunctionProto {
        name: Some(name.into()),
        domain: Some("own".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: nodes,
        opset_import: vec![opset("", 17), opset("own", 1)],
        ..FunctionProto::default()
    });
}

fn call(model: &mut ModelProto, name: &str) {
    model.opset_import.push(opset("own", 1));
    graph(model).node.push(NodeProto { domain: Some("own".into()), ..node("call", name, &["x"], &["z"]) });
}

/// A field of bytes behind its tag.
fn delimited(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![tag];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}
