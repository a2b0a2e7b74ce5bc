// Direct convolution, blocked in registers.
//
// One invocation computes TILE_X x TILE_Y neighbouring positions of 4 * QUADS output channels of one image. The rows of
// input that its window covers are read into registers once and used for every tap and every output channel.
//
// Arrays are only ever indexed by counters of short loops: after each column of the window, and after each vector of
// results, what comes next is moved to the front. So they stay in registers whether or not a compiler unrolls the loops
// around.
//
// input   NCHW
// weight  [group][block of 4 * QUADS output channels][input channel][window row][window column][QUADS] vectors of four
//         output channels, zeros beyond the last channel
// output  NCHW
//
// Takes any size, stride, padding, dilation and number of groups. TILE_X * TILE_Y * QUADS is at most MAX_TILE, WINDOW_W *
// READS at most MAX_TAPS; with CACHE_ROWS, TILE_Y * SPAN is at most MAX_ROW, otherwise TILE_Y * TILE_X is.

alias elem = f32;

override WINDOW_H: u32 = 3u;
override WINDOW_W: u32 = 3u;
override STRIDE_H: u32 = 1u;
override STRIDE_W: u32 = 1u;
override DILATION_H: u32 = 1u;
override DILATION_W: u32 = 1u;
override TILE_X: u32 = 4u;
override TILE_Y: u32 = 1u;
override QUADS: u32 = 1u;
// Whether the rows are kept in registers, or every tap reads its own elements.
override CACHE_ROWS: bool = true;
override WORKGROUP: u32 = 64u;
// Neighbouring invocations that read the taps of a window column together, at least QUADS; or 1. See `from_lane`.
override LANES: u32 = 1u;

// Columns of input that a row of TILE_X outputs depends on.
override SPAN: u32 = (TILE_X - 1u) * STRIDE_W + (WINDOW_W - 1u) * DILATION_W + 1u;
// Where in the registers the next row begins, and the next position of the window.
override ROW: u32 = select(TILE_X, SPAN, CACHE_ROWS);
override STEP: u32 = select(1u, STRIDE_W, CACHE_ROWS);
override TILE: u32 = TILE_X * TILE_Y;
// Vectors of taps that an invocation reads for each column of the window.
override READS: u32 = select(QUADS, 1u, LANES > 1u);

const MAX_TILE = 64;
const MAX_ROW = 32;
const MAX_TAPS = 32;

// What another of the LANES invocations holds; the invocation's own value if it shares none.
fn from_lane(value: vec4<f32>, lane: u32) -> vec4<f32> { return value; }

// The input at this column; `start` is where its row begins. A row or column outside is read at 0 and replaced by 0; one
// before the first has wrapped to a large number.
fn fetch(start: u32, x: u32, row_exists: bool) -> f32 {
    let exists = row_exists & (x < params.in_width);
    return select(0.0, f32(input[select(0u, start + x, exists)]), exists);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let workgroup = params.first + id.y * params.row_length + id.x;
    if workgroup >= params.end {
        return;
    }
    let lane = local;
    // The taps depend on the workgroup alone, so that all its invocations need the same ones.
    let groups = params.in_channels / params.group_in;
    let block = workgroup % params.blocks;
    let group = workgroup / params.blocks % groups;
    // An invocation without a tile computes the last one too, because others may ask for its taps.
    let tile = workgroup / (params.blocks * groups) * WORKGROUP + local;
    let clamped = min(tile, params.items - 1u);
    let tile_x = clamped % params.tiles_x * TILE_X;
    let tile_y = clamped / params.tiles_x % params.tiles_y * TILE_Y;
    let image = clamped / (params.tiles_x * params.tiles_y);

    let top = tile_y * STRIDE_H - params.pad_top;
    let left = tile_x * STRIDE_W - params.pad_left;
    let plane_size = params.in_height * params.in_width;
    var plane = (image * params.in_channels + group * params.group_in) * plane_size;
    var at = (group * params.blocks + block) * params.depth * QUADS;

    var sums: array<vec4<f32>, MAX_TILE>;
    var rows: array<f32, MAX_ROW>;
    var taps: array<vec4<f32>, MAX_TAPS>;
    for (var channel = 0u; channel < params.group_in; channel++) {
        for (var ky = 0u; ky < WINDOW_H; ky++) {
            for (var i = 0u; i < WINDOW_W * READS; i++) {
                let shared_at = i * QUADS + min(lane % LANES, QUADS - 1u);
                taps[i] = vec4<f32>(weight[at + select(i, shared_at, LANES > 1u)]);
            }
            at += WINDOW_W * QUADS;
            if CACHE_ROWS {
                for (var ty = 0u; ty < TILE_Y; ty++) {
                    let y = top + ty * STRIDE_H + ky * DILATION_H;
                    for (var i = 0u; i < SPAN; i++) {
                        rows[ty * SPAN + i] = fetch(plane + y * params.in_width, left + i, y < params.in_height);
                    }
                }
            }
            for (var kx = 0u; kx < WINDOW_W; kx++) {
                if !CACHE_ROWS {
                    for (var ty = 0u; ty < TILE_Y; ty++) {
                        let y = top + ty * STRIDE_H + ky * DILATION_H;
                        for (var tx = 0u; tx < TILE_X; tx++) {
                            let x = left + tx * STRIDE_W + kx * DILATION_W;
                            rows[ty * TILE_X + tx] = fetch(plane + y * params.in_width, x, y < params.in_height);
                        }
                    }
                }
                for (var q = 0u; q < QUADS; q++) {
                    let tap = from_lane(taps[select(q, 0u, LANES > 1u)], q);
                    for (var ty = 0u; ty < TILE_Y; ty++) {
                        for (var tx = 0u; tx < TILE_X; tx++) {
                            sums[q * TILE + ty * TILE_X + tx] += rows[ty * ROW + tx * STEP] * tap;
                        }
                    }
                }
                for (var i = READS; i < WINDOW_W * READS; i++) {
                    taps[i - READS] = taps[i];
                }
                if CACHE_ROWS {
                    for (var i = DILATION_W; i < TILE_Y * SPAN; i++) {
                        rows[i - DILATION_W] = rows[i];
                    }
                }
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
        for (var ty = 0u; ty < TILE_Y; ty++) {
            for (var tx = 0u; tx < TILE_X; tx++) {
                let sum = sums[ty * TILE_X + tx];
                let exists = (tile_y + ty < params.out_height) & (tile_x + tx < params.out_width);
                let to = first + channel * size + (tile_y + ty) * params.out_width + tile_x + tx;
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
        }
        for (var next = 1u; next < QUADS; next++) {
            for (var i = 0u; i < TILE; i++) {
                sums[(next - 1u) * TILE + i] = sums[next * TILE + i];
            }
        }
    }
}
