// Convolution of a 3x3 window with stride 1 by Winograd's algorithm F(2x2, 3x3): 16 multiplications for 2x2 outputs of one
// input and output channel, where the direct algorithm takes 36.
//
// A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv 1509.09308: the 4x4 elements d
// that 2x2 outputs depend on become V = B^T d B, the weights g are U = G g G^T beforehand, products of U and V are summed
// over the input channels to M, and the outputs are A^T M A.
//
// One invocation computes 2x2 neighbouring positions of 4 * QUADS output channels of one image, in registers from the
// elements to the outputs.
//
// input   NCHW
// weight  [group][block of 4 * QUADS output channels][input channel][row and column of U][QUADS] vectors of four output
//         channels, zeros beyond the last channel
// output  NCHW
//
// Takes any size, padding and number of groups; the window, the stride and the dilation are as said. 16 * QUADS is at most
// MAX_SUMS.

alias elem = f32;

override QUADS: u32 = 1u;
override WORKGROUP: u32 = 64u;
// Neighbouring invocations that read the weights of one element of U together, at least QUADS; or 1. See `from_lane`.
override LANES: u32 = 1u;

// Elements of U, V and M.
const AREA = 16u;
const MAX_SUMS = 32;

// What another of the LANES invocations holds; the invocation's own value if it shares none.
fn from_lane(value: vec4<f32>, lane: u32) -> vec4<f32> { return value; }

// The input at this column; `start` is where its row begins. A row or column outside is read at 0 and replaced by 0; one
// before the first has wrapped to a large number.
fn fetch(start: u32, x: u32, row_exists: bool) -> f32 {
    let exists = row_exists & (x < params.in_width);
    return select(0.0, f32(input[select(0u, start + x, exists)]), exists);
}

// Four neighbouring elements of a row.
fn fetch_row(plane: u32, y: u32, x: u32) -> vec4<f32> {
    let start = plane + y * params.in_width;
    let exists = y < params.in_height;
    return vec4<f32>(
        fetch(start, x, exists),
        fetch(start, x + 1u, exists),
        fetch(start, x + 2u, exists),
        fetch(start, x + 3u, exists),
    );
}

// A row times B.
fn times_b(row: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(row.x - row.z, row.y + row.z, row.z - row.y, row.y - row.w);
}

// Writes four channels of one position, as far as they exist.
fn store(sum: vec4<f32>, to: u32, size: u32, channel: u32, exists: bool) {
    if exists & (channel < params.group_out) {
        output[to] = elem(sum.x);
    }
    if exists & (channel + 1u < params.group_out) {
        output[to + size] = elem(sum.y);
    }
    if exists & (channel + 2u < params.group_out) {
        output[to + 2u * size] = elem(sum.z);
    }
    if exists & (channel + 3u < params.group_out) {
        output[to + 3u * size] = elem(sum.w);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let workgroup = params.first + id.y * params.row_length + id.x;
    if workgroup >= params.end {
        return;
    }
    let lane = local;
    // The weights depend on the workgroup alone, so that all its invocations need the same ones.
    let groups = params.in_channels / params.group_in;
    let block = workgroup % params.blocks;
    let group = workgroup / params.blocks % groups;
    // An invocation without a tile computes the last one too, because others may ask for its weights.
    let tile = workgroup / (params.blocks * groups) * WORKGROUP + local;
    let clamped = min(tile, params.items - 1u);
    let tile_x = clamped % params.tiles_x * 2u;
    let tile_y = clamped / params.tiles_x % params.tiles_y * 2u;
    let image = clamped / (params.tiles_x * params.tiles_y);

    let top = tile_y - params.pad_top;
    let left = tile_x - params.pad_left;
    let plane_size = params.in_height * params.in_width;
    var plane = (image * params.in_channels + group * params.group_in) * plane_size;
    var at = (group * params.blocks + block) * params.group_in * AREA * QUADS + select(0u, min(lane % LANES, QUADS - 1u), LANES > 1u);

    // M: all elements of the first four output channels, then of the next.
    var sums: array<vec4<f32>, MAX_SUMS>;
    for (var channel = 0u; channel < params.group_in; channel++) {
        let row0 = fetch_row(plane, top, left);
        let row1 = fetch_row(plane, top + 1u, left);
        let row2 = fetch_row(plane, top + 2u, left);
        let row3 = fetch_row(plane, top + 3u, left);
        var v = array<vec4<f32>, 4>(times_b(row0 - row2), times_b(row1 + row2), times_b(row2 - row1), times_b(row1 - row3));
        for (var i = 0u; i < 4u; i++) {
            for (var j = 0u; j < 4u; j++) {
                let read = vec4<f32>(weight[at]);
                for (var q = 0u; q < QUADS; q++) {
                    var u = from_lane(read, q);
                    if LANES == 1u && q > 0u {
                        u = vec4<f32>(weight[at + q]);
                    }
                    sums[q * AREA + i * 4u + j] += v[i][j] * u;
                }
                at += QUADS;
            }
        }
        plane += plane_size;
    }

    if tile >= params.items {
        return;
    }
    let size = params.out_height * params.out_width;
    let first = (image * params.out_channels + group * params.group_out) * size;
    for (var q = 0u; q < QUADS; q++) {
        let channel = (block * QUADS + q) * 4u;
        // A^T M, column by column.
        var upper: array<vec4<f32>, 4>;
        var lower: array<vec4<f32>, 4>;
        for (var j = 0u; j < 4u; j++) {
            let m1 = sums[q * AREA + 4u + j];
            let m2 = sums[q * AREA + 8u + j];
            upper[j] = sums[q * AREA + j] + m1 + m2;
            lower[j] = m1 - m2 - sums[q * AREA + 12u + j];
        }
        let to = first + channel * size + tile_y * params.out_width + tile_x;
        let right_exists = tile_x + 1u < params.out_width;
        let lower_exists = tile_y + 1u < params.out_height;
        store(upper[0] + upper[1] + upper[2], to, size, channel, true);
        store(upper[1] - upper[2] - upper[3], to + 1u, size, channel, right_exists);
        store(lower[0] + lower[1] + lower[2], to + params.out_width, size, channel, lower_exists);
        store(lower[1] - lower[2] - lower[3], to + params.out_width + 1u, size, channel, right_exists & lower_exists);
    }
}
