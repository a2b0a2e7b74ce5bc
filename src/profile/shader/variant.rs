//! The table of shaders: what there is, which problems each takes, and how a problem is laid out for it.

use std::fmt;

use super::adapter::Capabilities;
use super::winograd;
use crate::conv::ConvProblem;
use crate::tensor::{DType, element_count};

/// One way to run a convolution: a shader with its tile sizes. Shown as `conv_direct 8x1x8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    family: Family,
}

/// A shader file with the tile sizes it is specialised for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    /// Columns, rows and output channels (a multiple of four) of one invocation; how many neighbours read taps together.
    Direct { columns: u32, rows: u32, channels: u32, lanes: u32 },
    /// Output channels, positions and taps of one workgroup; output channels and positions of one invocation.
    Gemm { channels: u32, positions: u32, taps: u32, thread: [u32; 2] },
    /// Columns and rows of one invocation.
    Depthwise { columns: u32, rows: u32 },
    /// Output channels (a multiple of four) of one invocation; how many neighbours read weights together.
    Winograd { channels: u32, lanes: u32 },
}

const fn direct(columns: u32, rows: u32, channels: u32) -> Variant {
    Variant { family: Family::Direct { columns, rows, channels, lanes: 1 } }
}

const fn direct_shared(columns: u32, rows: u32, channels: u32) -> Variant {
    Variant { family: Family::Direct { columns, rows, channels, lanes: SHARED_LANES } }
}

const fn gemm(channels: u32, positions: u32, taps: u32, thread: [u32; 2]) -> Variant {
    Variant { family: Family::Gemm { channels, positions, taps, thread } }
}

const fn depthwise(columns: u32, rows: u32) -> Variant {
    Variant { family: Family::Depthwise { columns, rows } }
}

const fn winograd(channels: u32, lanes: u32) -> Variant {
    Variant { family: Family::Winograd { channels, lanes } }
}

/// Every variant there is. Of two that are equally fast, the earlier one is kept.
const VARIANTS: [Variant; 14] = [
    depthwise(4, 16),
    depthwise(8, 8),
    depthwise(4, 4),
    direct_shared(4, 1, 32),
    direct_shared(8, 1, 32),
    direct_shared(4, 1, 16),
    direct(8, 2, 8),
    direct(8, 1, 8),
    direct(4, 1, 4),
    winograd(8, SHARED_LANES),
    winograd(4, 1),
    gemm(64, 64, 16, [8, 8]),
    gemm(128, 64, 16, [8, 8]),
    gemm(32, 32, 16, [4, 4]),
];

/// Invocations of a workgroup where the shader leaves the choice.
const WORKGROUP: u32 = 64;
/// Array sizes in the shaders.
const DIRECT_MAX_ROW: u32 = 32;
const DIRECT_MAX_TAPS: u32 = 32;
const DEPTHWISE_MAX_SPAN: u32 = 32;
const DEPTHWISE_MAX_PATCH: u32 = 160;
const DEPTHWISE_MAX_TAPS: u64 = 64;
/// Multiply-adds of a row of a depthwise strip up to which drivers unroll it, which keeps its arrays in registers.
const DEPTHWISE_MAX_UNROLLED: u64 = 330;
/// Invocations that read taps together where they can exchange values.
const SHARED_LANES: u32 = 8;
/// Largest stride, padding or extent of a window: keeps every coordinate far inside 32 bits.
const MAX_EXTENT: u64 = 1 << 20;
/// Most iterations of an invocation's loops. Mesa's software adapter stops a loop after 65 535 without a word.
const MAX_ITERATIONS: u64 = 60_000;

/// A shader's file and source, with what all of them are given behind it.
macro_rules! shader {
    ($file:literal) => {
        (
            $file,
            concat!(
                include_str!(concat!("../../../shaders/", $file)),
                "\n",
                include_str!("../../../shaders/conv_common.wgsl")
            ),
        )
    };
}

/// The source of every shader, with its file's name.
pub const SOURCES: [(&str, &str); 4] = [
    shader!("conv_direct.wgsl"),
    shader!("conv_gemm.wgsl"),
    shader!("conv_depthwise.wgsl"),
    shader!("conv_winograd.wgsl"),
];

/// The line of a shader that names the type of its elements.
pub(super) const ELEMENT_ALIAS: &str = "alias elem = f32;";

/// What a shader needs whose invocations read weights together: the lane's number and the exchange of values.
const SHARING: [(&str, &str); 3] = [
    ("local: u32)", "local: u32, @builtin(subgroup_invocation_id) lane: u32)"),
    ("    let lane = local;\n", ""),
    ("{ return value; }", "{ return subgroupShuffle(value, lane); }"),
];

impl Variant {
    /// Every variant, in the order of the table.
    pub fn all() -> &'static [Self] {
        &VARIANTS
    }

    /// The variants that take `problem`, in the order of the table.
    pub fn taking(problem: &ConvProblem) -> impl Iterator<Item = Self> {
        VARIANTS.into_iter().filter(|variant| variant.takes(problem))
    }

    /// Whether the result for `problem` is right, on an adapter whose limits allow the tiles.
    pub fn takes(&self, problem: &ConvProblem) -> bool {
        let conv = problem.conv();
        let [_, group_in, window_height, window_width] = problem.weight_shape().map(u64::from);
        let area = window_height * window_width;
        let depth = group_in.saturating_mul(area);
        let extents = [
            u64::from(conv.stride[0]),
            u64::from(conv.stride[1]),
            window_height * u64::from(conv.dilation[0]),
            window_width * u64::from(conv.dilation[1]),
        ];
        let sane = conv.padding.iter().map(|&n| u64::from(n)).chain(extents).all(|n| n <= MAX_EXTENT);
        let supported = matches!(problem.dtype(), DType::F32 | DType::F16);
        sane && supported
            && match self.family {
                Family::Direct { channels, lanes, .. } => {
                    let reads = if lanes == 1 { channels / 4 } else { 1 };
                    depth <= MAX_ITERATIONS / 4 && conv.window[1] <= DIRECT_MAX_TAPS / reads
                }
                Family::Gemm { .. } => depth <= MAX_ITERATIONS / 2 && (group_in > 1 || conv.groups == 1),
                Family::Depthwise { columns, .. } => {
                    let span = extent(columns, conv.stride[1], conv.window[1], conv.dilation[1]);
                    let reach = extent(1, 1, conv.window[0], conv.dilation[0]);
                    group_in == 1
                        && area <= DEPTHWISE_MAX_TAPS
                        && area * u64::from(columns) <= DEPTHWISE_MAX_UNROLLED
                        && span <= DEPTHWISE_MAX_SPAN
                        && reach <= DEPTHWISE_MAX_PATCH / span
                }
                // With a single input channel there is nothing to sum up between the transformations.
                Family::Winograd { .. } => {
                    (conv.window, conv.stride, conv.dilation) == ([3, 3], [1, 1], [1, 1])
                        && group_in > 1
                        && depth <= MAX_ITERATIONS / 4
                }
            }
    }

    /// File name of the shader.
    pub fn file(&self) -> &'static str {
        SOURCES[self.source_index()].0
    }

    /// The shader's source for these elements.
    pub fn source(&self, dtype: DType) -> String {
        let source = SOURCES[self.source_index()].1;
        let mut source = source.to_owned();
        if let Family::Direct { lanes: SHARED_LANES, .. } | Family::Winograd { lanes: SHARED_LANES, .. } = self.family {
            for (from, to) in SHARING {
                source = source.replacen(from, to, 1);
            }
        }
        with_elements(&source, dtype)
    }

    /// Values of the shader's `override` constants for `problem`.
    pub fn constants(&self, problem: &ConvProblem) -> Vec<(&'static str, f64)> {
        let conv = problem.conv();
        let mut constants = vec![
            ("WINDOW_H", f64::from(conv.window[0])),
            ("WINDOW_W", f64::from(conv.window[1])),
            ("STRIDE_H", f64::from(conv.stride[0])),
            ("STRIDE_W", f64::from(conv.stride[1])),
            ("DILATION_H", f64::from(conv.dilation[0])),
            ("DILATION_W", f64::from(conv.dilation[1])),
        ];
        match self.family {
            Family::Direct { columns, rows, channels, lanes } => {
                let span = extent(columns, conv.stride[1], conv.window[1], conv.dilation[1]);
                let cached = span <= DIRECT_MAX_ROW / rows && span <= columns.saturating_mul(conv.window[1]);
                constants.extend([
                    ("TILE_X", f64::from(columns)),
                    ("TILE_Y", f64::from(rows)),
                    ("QUADS", f64::from(channels / 4)),
                    ("CACHE_ROWS", f64::from(u8::from(cached))),
                    ("WORKGROUP", f64::from(WORKGROUP)),
                    ("LANES", f64::from(lanes)),
                ]);
            }
            Family::Gemm { channels, positions, taps, thread } => {
                let plain = conv.window == [1, 1] && conv.stride == [1, 1] && conv.padding == [0; 4];
                let [height, width] = problem.output();
                let vectors = plain && (u64::from(height) * u64::from(width)).is_multiple_of(4);
                constants.extend([
                    ("TILE_M", f64::from(channels)),
                    ("TILE_N", f64::from(positions)),
                    ("TILE_K", f64::from(taps)),
                    ("THREAD_M", f64::from(thread[0])),
                    ("THREAD_N", f64::from(thread[1])),
                    ("VECTOR_INPUT", f64::from(u8::from(vectors))),
                ]);
            }
            Family::Depthwise { columns, rows } => {
                constants.extend([
                    ("TILE_X", f64::from(columns)),
                    ("TILE_Y", f64::from(rows)),
                    ("WORKGROUP", f64::from(WORKGROUP)),
                ]);
            }
            // Its window, stride and dilation are always the same.
            Family::Winograd { channels, lanes } => {
                constants.clear();
                constants.extend([
                    ("QUADS", f64::from(channels / 4)),
                    ("WORKGROUP", f64::from(WORKGROUP)),
                    ("LANES", f64::from(lanes)),
                ]);
            }
        }
        constants
    }

    fn source_index(&self) -> usize {
        match self.family {
            Family::Direct { .. } => 0,
            Family::Gemm { .. } => 1,
            Family::Depthwise { .. } => 2,
            Family::Winograd { .. } => 3,
        }
    }

    /// Whether an adapter with these capabilities can run it on such elements.
    pub(super) fn fits(&self, on: &Capabilities, dtype: DType) -> bool {
        let (invocations, storage, lanes) = match self.family {
            Family::Direct { lanes, .. } | Family::Winograd { lanes, .. } => (WORKGROUP, 0, lanes),
            Family::Depthwise { .. } => (WORKGROUP, 0, 1),
            Family::Gemm { channels, positions, taps, thread } => (
                channels / thread[0] * (positions / thread[1]),
                u64::from(taps * (channels + positions)) * dtype.size(),
                1,
            ),
        };
        invocations <= on.workgroup_invocations.min(on.workgroup_size[0])
            && storage <= on.workgroup_memory.0
            && (lanes == 1 || (on.subgroups && on.subgroup_size[0] >= lanes))
    }

    /// Whether it multiplies transformed values, whose sums round otherwise than those of the plain products.
    pub(super) fn transforms(&self) -> bool {
        matches!(self.family, Family::Winograd { .. })
    }

    /// How good a first guess this family is on an adapter of this kind; lower is better.
    pub(super) fn rank(&self, software: bool) -> u32 {
        match (self.family, software) {
            (Family::Depthwise { .. }, _) => 0,
            (Family::Direct { .. }, true) | (Family::Gemm { .. }, false) => 1,
            (Family::Gemm { .. }, true) | (Family::Direct { .. }, false) => 2,
            // So that where time is up before it is tried nothing else is left out for it.
            (Family::Winograd { .. }, _) => 3,
        }
    }

    /// How `images` images of `problem` are cut into workgroups.
    pub(super) fn grid(&self, problem: &ConvProblem, images: u32) -> Grid {
        let [out_channels, group_in, window_height, window_width] = problem.weight_shape();
        let groups = problem.conv().groups;
        let group_out = out_channels / groups;
        let [height, width] = problem.output();
        let depth = group_in * window_height * window_width;
        let positions = u64::from(images) * u64::from(height) * u64::from(width);
        // Tiles of all images for all invocations of a workgroup, a block of output channels for all of it.
        let tiled = |columns: u32, rows: u32, channels: u32| {
            let tiles = [height.div_ceil(rows), width.div_ceil(columns)];
            let blocks = group_out.div_ceil(channels);
            let items = element_count(&[images, tiles[0], tiles[1]]);
            (tiles, blocks, items, element_count(&[groups, blocks]) * items.div_ceil(u64::from(WORKGROUP)))
        };
        let (tiles, blocks, items, workgroups) = match self.family {
            Family::Direct { columns, rows, channels, .. } => tiled(columns, rows, channels),
            Family::Winograd { channels, .. } => tiled(2, 2, channels),
            Family::Depthwise { columns, rows } => {
                let tiles = [height.div_ceil(rows), width.div_ceil(columns)];
                let items = element_count(&[images, out_channels, tiles[0], tiles[1]]);
                (tiles, 1, items, items.div_ceil(u64::from(WORKGROUP)))
            }
            Family::Gemm { channels, positions: tile, .. } => {
                let blocks = group_out.div_ceil(channels);
                let workgroups = element_count(&[groups, blocks]) * positions.div_ceil(u64::from(tile));
                ([1, 1], blocks, workgroups, workgroups)
            }
        };
        Grid { images, tiles, blocks, depth, items, positions, workgroups }
    }

    /// Elements of the weight as the shader wants it.
    pub(super) fn packed_len(&self, problem: &ConvProblem) -> u64 {
        let groups = problem.conv().groups;
        let grid = self.grid(problem, 1);
        match self.family {
            Family::Direct { channels, .. } => element_count(&[groups, grid.blocks, grid.depth, channels]),
            Family::Gemm { channels, taps, .. } => {
                element_count(&[groups, grid.blocks, grid.depth.next_multiple_of(taps), channels])
            }
            Family::Depthwise { .. } => element_count(&[problem.out_channels(), grid.depth.next_multiple_of(4)]),
            Family::Winograd { channels, .. } => {
                element_count(&[groups, grid.blocks, grid.depth / 9 * winograd::AREA, channels])
            }
        }
    }

    /// The weight (output channel, input channel, window row, window column) in the order the shader wants it.
    pub(super) fn pack(&self, problem: &ConvProblem, weight: &[f32]) -> Vec<f32> {
        let grid = self.grid(problem, 1);
        let depth = grid.depth as usize;
        let mut packed = vec![0.0; self.packed_len(problem) as usize];
        let (channels, padded) = match self.family {
            Family::Depthwise { .. } => {
                let padded = depth.next_multiple_of(4);
                for (to, from) in packed.chunks_exact_mut(padded).zip(weight.chunks_exact(depth)) {
                    to[..depth].copy_from_slice(from);
                }
                return packed;
            }
            Family::Direct { channels, .. } => (channels as usize, depth),
            Family::Gemm { channels, taps, .. } => (channels as usize, depth.next_multiple_of(taps as usize)),
            Family::Winograd { channels, .. } => (channels as usize, depth / 9 * winograd::AREA as usize),
        };
        let transformed = matches!(self.family, Family::Winograd { .. }).then(|| winograd::transformed(weight));
        let (weight, depth) = transformed.as_ref().map_or((weight, depth), |transformed| (&transformed[..], padded));
        let group_out = (problem.out_channels() / problem.conv().groups) as usize;
        for (channel, taps) in weight.chunks_exact(depth).enumerate() {
            let (group, in_group) = (channel / group_out, channel % group_out);
            let block = group * grid.blocks as usize + in_group / channels;
            for (k, &tap) in taps.iter().enumerate() {
                packed[(block * padded + k) * channels + in_group % channels] = tap;
            }
        }
        packed
    }
}

/// A shader's source for these elements.
pub(super) fn with_elements(source: &str, dtype: DType) -> String {
    match dtype {
        // `enable` has to come before everything but comments; the alias is the file's first declaration.
        DType::F16 => source.replacen(ELEMENT_ALIAS, "enable f16;\nalias elem = f16;", 1),
        DType::F32 | DType::BF16 | DType::I8 => source.to_owned(),
    }
}

/// Elements along an axis that `count` neighbouring outputs depend on.
fn extent(count: u32, stride: u32, window: u32, dilation: u32) -> u32 {
    let span = |steps: u32, step: u32| (steps - 1).saturating_mul(step);
    span(count, stride).saturating_add(span(window, dilation)).saturating_add(1)
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file().trim_end_matches(".wgsl");
        f.pad(&match self.family {
            Family::Direct { columns, rows, channels, lanes: 1 } => format!("{file} {columns}x{rows}x{channels}"),
            Family::Direct { columns, rows, channels, lanes } => format!("{file} {columns}x{rows}x{channels}/{lanes}"),
            Family::Gemm { channels, positions, taps, thread: [m, n] } => {
                format!("{file} {channels}x{positions}x{taps}/{m}x{n}")
            }
            Family::Depthwise { columns, rows } => format!("{file} {columns}x{rows}"),
            Family::Winograd { channels, lanes: 1 } => format!("{file} 2x2x{channels}"),
            Family::Winograd { channels, lanes } => format!("{file} 2x2x{channels}/{lanes}"),
        })
    }
}

/// A problem cut into workgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    /// Images computed together.
    pub(super) images: u32,
    /// Tiles of one plane, down and across.
    tiles: [u32; 2],
    /// Blocks of output channels in a group.
    blocks: u32,
    /// Taps of one output.
    depth: u32,
    /// Tiles in all.
    items: u64,
    /// Output positions of all images.
    positions: u64,
    /// Workgroups in all.
    pub(super) workgroups: u64,
}

/// Workgroups of a dispatch along x; further ones go along y. Both stay below every adapter's limit of 65 535.
pub(super) const ROW_LENGTH: u32 = 32_768;

impl Grid {
    /// The shader's `Params` for the workgroups `first..end`.
    pub(super) fn params(&self, problem: &ConvProblem, first: u32, end: u32) -> [u32; 20] {
        let conv = problem.conv();
        let [out_channels, group_in, ..] = problem.weight_shape();
        let [in_height, in_width] = problem.input();
        let [out_height, out_width] = problem.output();
        [
            first,
            end,
            ROW_LENGTH,
            self.images,
            problem.in_channels(),
            out_channels,
            group_in,
            out_channels / conv.groups,
            in_height,
            in_width,
            out_height,
            out_width,
            conv.padding[0],
            conv.padding[1],
            self.tiles[1],
            self.tiles[0],
            self.blocks,
            self.depth,
            self.items as u32,
            self.positions as u32,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::Conv;

    fn problem(conv: Conv, channels: [u32; 2]) -> ConvProblem {
        ConvProblem::new(conv, 1, channels[0], channels[1], [12, 12], DType::F32).unwrap()
    }

    #[test]
    fn names_tell_file_and_tiles() {
        let names: Vec<String> = [depthwise(4, 16), direct(8, 2, 8), direct_shared(4, 1, 32), gemm(64, 32, 16, [8, 4])]
            .map(|v| v.to_string())
            .into();
        assert_eq!(
            names,
            ["conv_depthwise 4x16", "conv_direct 8x2x8", "conv_direct 4x1x32/8", "conv_gemm 64x32x16/8x4"]
        );
    }

    #[test]
    fn every_variant_has_a_name_of_its_own() {
        for (i, variant) in VARIANTS.iter().enumerate() {
            assert!(!VARIANTS[..i].iter().any(|other| other.to_string() == variant.to_string()), "{variant}");
        }
    }

    #[test]
    fn who_takes_what() {
        let square = Conv::square(3);
        let far = Conv { stride: [1 << 21, 1], ..square };
        for (name, problem, [depthwise_takes, direct_takes, gemm_takes]) in [
            ("full", problem(square, [8, 8]), [false, true, true]),
            ("one input channel", problem(square, [1, 8]), [true, true, true]),
            ("depthwise", problem(square.with_groups(8), [8, 8]), [true, true, false]),
            ("depthwise, a large window", problem(Conv::square(9).with_groups(8), [8, 8]), [false, true, false]),
            ("a stride beyond measure", problem(far, [8, 8]), [false, false, false]),
            ("16 000 taps", problem(Conv::square(1), [16_000, 4]), [false, false, true]),
            ("40 000 taps", problem(Conv::square(1), [40_000, 4]), [false, false, false]),
        ] {
            assert_eq!(depthwise(4, 4).takes(&problem), depthwise_takes, "{name}");
            assert_eq!(direct(4, 1, 4).takes(&problem), direct_takes, "{name}");
            assert_eq!(gemm(64, 64, 16, [8, 8]).takes(&problem), gemm_takes, "{name}");
        }
        for (name, problem, taken) in [
            ("full", problem(square, [8, 8]), true),
            ("grouped", problem(square.with_groups(2), [8, 8]), true),
            ("much padding", problem(square.with_padding([9, 0, 3, 7]), [8, 8]), true),
            ("depthwise", problem(square.with_groups(8), [8, 8]), false),
            ("stride 2", problem(square.with_stride(2), [8, 8]), false),
            ("dilated", problem(Conv { dilation: [1, 2], ..square }, [8, 8]), false),
            ("another window", problem(Conv::square(5), [8, 8]), false),
            ("15 003 taps", problem(square, [1667, 4]), false),
        ] {
            assert_eq!(winograd(16, 1).takes(&problem), taken, "{name}");
        }
    }

    #[test]
    fn weights_are_packed_for_vectors_of_four_channels() {
        let one_by_two = Conv::rectangle([1, 2]);
        // Two groups of one output channel, two input channels each.
        let grouped = problem(one_by_two.with_groups(2), [4, 2]);
        let weight = [1., 2., 3., 4., 5., 6., 7., 8.];
        let direct_packed = [1., 0., 0., 0., 2., 0., 0., 0., 3., 0., 0., 0., 4., 0., 0., 0.];
        assert_eq!(direct(4, 1, 4).pack(&grouped, &weight)[..16], direct_packed);
        let gemm_packed = gemm(4, 4, 8, [4, 4]).pack(&grouped, &weight);
        assert_eq!(gemm_packed[..16], direct_packed);
        assert_eq!(gemm_packed[16..32], [0.; 16], "four taps are padded to eight");
        assert_eq!(gemm_packed[32..36], [5., 0., 0., 0.], "the second group");
        let depthwise_packed = depthwise(4, 4).pack(&problem(one_by_two.with_groups(4), [4, 4]), &weight);
        assert_eq!(depthwise_packed, [1., 2., 0., 0., 3., 4., 0., 0., 5., 6., 0., 0., 7., 8., 0., 0.]);
        // Five output channels in two blocks of four, two input channels: the corner taps as they are, others mixed.
        let winograd_packed = {
            let problem = problem(Conv::square(3), [2, 5]);
            let weight: Vec<f32> = (0..5 * 2 * 9).map(|at| if at % 9 == 0 { at as f32 } else { 0.0 }).collect();
            winograd(4, 1).pack(&problem, &weight)
        };
        assert_eq!(winograd_packed.len(), 2 * 2 * 16 * 4);
        assert_eq!(winograd_packed[..8], [0., 18., 36., 54., 0., 9., 18., 27.], "the first taps, and half of them");
        assert_eq!(winograd_packed[64..68], [9., 27., 45., 63.], "the second input channel");
        assert_eq!(winograd_packed[128..132], [72., 0., 0., 0.], "the second block");
    }

    #[test]
    fn what_is_replaced_in_a_source_stands_there_once() {
        for (file, source) in SOURCES {
            assert_eq!(source.matches(ELEMENT_ALIAS).count(), 1, "{file}");
        }
        for (from, _) in SHARING {
            for (file, source) in [SOURCES[0], SOURCES[3]] {
                assert_eq!(source.matches(from).count(), 1, "{from} in {file}");
            }
        }
    }
}
