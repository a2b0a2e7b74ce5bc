// Convolution of one input channel at a time: every group has a single input channel.
//
// One invocation computes a strip TILE_X columns wide and TILE_Y rows long of one output channel. It goes down the input
// row by row and keeps the rows under the window in registers, so that each element the strip depends on is read once.
//
// input   NCHW
// weight  [output channel][taps in window order, padded to vectors of four]
// output  NCHW
//
// Takes any size, stride, padding, dilation and number of output channels per group. TILE_X is at most MAX_TILE, SPAN at
// most MAX_SPAN, ROWS * SPAN at most MAX_PATCH, and the window's area at most 4 * MAX_TAPS.

alias elem = f32;

override WINDOW_H: u32 = 3u;
override WINDOW_W: u32 = 3u;
override STRIDE_H: u32 = 1u;
override STRIDE_W: u32 = 1u;
override DILATION_H: u32 = 1u;
override DILATION_W: u32 = 1u;
override TILE_X: u32 = 4u;
override TILE_Y: u32 = 2u;
override WORKGROUP: u32 = 64u;

// Columns of input that a row of the strip depends on, and rows of input under the window.
override SPAN: u32 = (TILE_X - 1u) * STRIDE_W + (WINDOW_W - 1u) * DILATION_W + 1u;
override ROWS: u32 = (WINDOW_H - 1u) * DILATION_H + 1u;
override QUADS: u32 = (WINDOW_H * WINDOW_W + 3u) / 4u;

const MAX_TILE = 8;
const MAX_SPAN = 32;
const MAX_PATCH = 160;
const MAX_TAPS = 16;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let workgroup = params.first + id.y * params.row_length + id.x;
    let item = workgroup * WORKGROUP + local;
    if workgroup >= params.end || item >= params.items {
        return;
    }
    let tile_x = item % params.tiles_x;
    let tile_y = item / params.tiles_x % params.tiles_y;
    let out_plane = item / (params.tiles_x * params.tiles_y);
    let channel = out_plane % params.out_channels;
    let image = out_plane / params.out_channels;

    let top = tile_y * TILE_Y * STRIDE_H - params.pad_top;
    let left = tile_x * TILE_X * STRIDE_W - params.pad_left;
    let plane = (image * params.in_channels + channel / params.group_out) * params.in_height * params.in_width;

    var taps: array<vec4<f32>, MAX_TAPS>;
    for (var i = 0u; i < QUADS; i++) {
        taps[i] = vec4<f32>(weight[channel * QUADS + i]);
    }
    // Rows and columns before the first have wrapped to large numbers; what lies outside is read at 0 and replaced by 0.
    var columns: array<u32, MAX_SPAN>;
    var inside: array<bool, MAX_SPAN>;
    for (var i = 0u; i < SPAN; i++) {
        inside[i] = left + i < params.in_width;
        columns[i] = select(0u, left + i, inside[i]);
    }
    var rows: array<f32, MAX_PATCH>;
    let x = tile_x * TILE_X;
    let out_start = (out_plane * params.out_height + tile_y * TILE_Y) * params.out_width + x;
    let outputs = min(TILE_Y, params.out_height - tile_y * TILE_Y);
    for (var r = 0u; r < (outputs - 1u) * STRIDE_H + ROWS; r++) {
        for (var i = 1u; i < ROWS; i++) {
            for (var j = 0u; j < SPAN; j++) {
                rows[(i - 1u) * SPAN + j] = rows[i * SPAN + j];
            }
        }
        let exists = top + r < params.in_height;
        let start = select(0u, plane + (top + r) * params.in_width, exists);
        for (var j = 0u; j < SPAN; j++) {
            rows[(ROWS - 1u) * SPAN + j] = select(0.0, f32(input[start + columns[j]]), exists & inside[j]);
        }
        // The window is complete, and stands where an output is.
        if r + 1u >= ROWS && (r + 1u - ROWS) % STRIDE_H == 0u {
            var sums = array<f32, MAX_TILE>();
            for (var ky = 0u; ky < WINDOW_H; ky++) {
                for (var kx = 0u; kx < WINDOW_W; kx++) {
                    let tap = taps[(ky * WINDOW_W + kx) / 4u][(ky * WINDOW_W + kx) % 4u];
                    for (var tx = 0u; tx < TILE_X; tx++) {
                        sums[tx] += tap * rows[ky * DILATION_H * SPAN + tx * STRIDE_W + kx * DILATION_W];
                    }
                }
            }
            let at = out_start + (r + 1u - ROWS) / STRIDE_H * params.out_width;
            for (var tx = 0u; tx < TILE_X; tx++) {
                if x + tx < params.out_width {
                    output[at + tx] = elem(sums[tx]);
                }
            }
        }
    }
}
