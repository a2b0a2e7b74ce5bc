// Convolution as a matrix multiplication whose right-hand matrix is never stored: weights (output channels by taps) times
// the input seen through the window (taps by positions), tile by tile through workgroup memory.
//
// One workgroup computes TILE_M output channels of one group at TILE_N positions, TILE_K taps at a time; one invocation
// THREAD_M channels at THREAD_N positions. Positions count through all images.
//
// input   NCHW; also bound as vectors of four for VECTOR_INPUT
// weight  [group][block of TILE_M output channels][tap][TILE_M / 4] vectors of four output channels, taps ordered by input
//         channel, window row, window column and padded to a multiple of TILE_K; zeros in all padding
// output  NCHW
//
// Takes any size, stride, padding, dilation and number of groups. TILE_M and THREAD_M are multiples of four, so are
// TILE_N and THREAD_N; THREAD_M * THREAD_N is at most 4 * MAX_TILE, each of them at most 4 * MAX_SIDE.

alias elem = f32;

override WINDOW_H: u32 = 3u;
override WINDOW_W: u32 = 3u;
override STRIDE_H: u32 = 1u;
override STRIDE_W: u32 = 1u;
override DILATION_H: u32 = 1u;
override DILATION_W: u32 = 1u;
override TILE_M: u32 = 64u;
override TILE_N: u32 = 64u;
override TILE_K: u32 = 16u;
override THREAD_M: u32 = 4u;
override THREAD_N: u32 = 4u;
// Whether four positions lie next to each other in the input: window, stride 1x1, no padding, a multiple of four positions.
override VECTOR_INPUT: bool = false;

override QUADS_M: u32 = TILE_M / 4u;
override QUADS_N: u32 = TILE_N / 4u;
override THREADS_M: u32 = TILE_M / THREAD_M;
override THREADS_N: u32 = TILE_N / THREAD_N;
override THREADS: u32 = THREADS_M * THREADS_N;
override WEIGHT_TILE: u32 = TILE_K * QUADS_M;
override INPUT_TILE: u32 = TILE_K * QUADS_N;

const MAX_TILE = 16;
const MAX_SIDE = 2;

@group(0) @binding(1) var<storage, read> input_quads: array<vec4<elem>>;

var<workgroup> weight_tile: array<vec4<elem>, WEIGHT_TILE>;
var<workgroup> input_tile: array<vec4<elem>, INPUT_TILE>;

// Where a position's window begins.
struct Corner {
    // First element of the image's first channel in the group.
    base: u32,
    y: u32,
    x: u32,
}

fn corner(position: u32, group: u32) -> Corner {
    let area = params.out_height * params.out_width;
    let first_channel = position / area * params.in_channels + group * params.group_in;
    return Corner(
        first_channel * params.in_height * params.in_width,
        position % area / params.out_width * STRIDE_H - params.pad_top,
        position % params.out_width * STRIDE_W - params.pad_left,
    );
}

// The element that tap `k` of a window sees; 0 in the padding, beyond the last tap and beyond the last position. A row or
// column before the first has wrapped to a large number.
fn fetch(at: Corner, exists: bool, k: u32) -> elem {
    let channel = k / (WINDOW_H * WINDOW_W);
    let tap = k % (WINDOW_H * WINDOW_W);
    let y = at.y + tap / WINDOW_W * DILATION_H;
    let x = at.x + tap % WINDOW_W * DILATION_W;
    let inside = exists & (k < params.depth) & (y < params.in_height) & (x < params.in_width);
    let index = at.base + (channel * params.in_height + y) * params.in_width + x;
    return select(elem(0.0), input[select(0u, index, inside)], inside);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let workgroup = params.first + id.y * params.row_length + id.x;
    if workgroup >= params.end {
        return;
    }
    let block = workgroup % params.blocks;
    let groups = params.in_channels / params.group_in;
    let group = workgroup / params.blocks % groups;
    let first_position = workgroup / (params.blocks * groups) * TILE_N;
    let tiles_k = (params.depth + TILE_K - 1u) / TILE_K;
    let weight_base = (group * params.blocks + block) * tiles_k * WEIGHT_TILE;

    // The four positions this invocation brings in, from every THREADS / QUADS_N-th tap of the tile.
    let quad = local % QUADS_N;
    let mine = first_position + quad * 4u;
    var corners: array<Corner, 4>;
    for (var i = 0u; i < 4u; i++) {
        corners[i] = corner(mine + i, group);
    }

    let thread_m = local / THREADS_N;
    let thread_n = local % THREADS_N;
    var sums: array<vec4<f32>, MAX_TILE>;
    var weights: array<vec4<f32>, MAX_SIDE>;
    var inputs: array<vec4<f32>, MAX_SIDE>;
    for (var tile = 0u; tile < tiles_k; tile++) {
        for (var i = local; i < WEIGHT_TILE; i += THREADS) {
            weight_tile[i] = weight[weight_base + tile * WEIGHT_TILE + i];
        }
        for (var i = local; i < INPUT_TILE; i += THREADS) {
            let k = tile * TILE_K + i / QUADS_N;
            if VECTOR_INPUT {
                let inside = (k < params.depth) & (mine < params.positions);
                let index = (corners[0].base + k * params.in_height * params.in_width
                    + corners[0].y * params.in_width + corners[0].x) / 4u;
                let values = input_quads[select(0u, index, inside)];
                input_tile[i] = select(vec4<elem>(), values, inside);
            } else {
                input_tile[i] = vec4<elem>(
                    fetch(corners[0], mine < params.positions, k),
                    fetch(corners[1], mine + 1u < params.positions, k),
                    fetch(corners[2], mine + 2u < params.positions, k),
                    fetch(corners[3], mine + 3u < params.positions, k),
                );
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k++) {
            for (var m = 0u; m < THREAD_M / 4u; m++) {
                weights[m] = vec4<f32>(weight_tile[k * QUADS_M + m * THREADS_M + thread_m]);
            }
            for (var n = 0u; n < THREAD_N / 4u; n++) {
                inputs[n] = vec4<f32>(input_tile[k * QUADS_N + n * THREADS_N + thread_n]);
            }
            for (var m = 0u; m < THREAD_M / 4u; m++) {
                for (var n = 0u; n < THREAD_N / 4u; n++) {
                    let first = m * THREAD_N + n;
                    sums[first] += weights[m].x * inputs[n];
                    sums[first + THREAD_N / 4u] += weights[m].y * inputs[n];
                    sums[first + THREAD_N / 2u] += weights[m].z * inputs[n];
                    sums[first + THREAD_N / 4u * 3u] += weights[m].w * inputs[n];
                }
            }
        }
        workgroupBarrier();
    }

    let area = params.out_height * params.out_width;
    for (var n = 0u; n < THREAD_N / 4u; n++) {
        for (var lane = 0u; lane < 4u; lane++) {
            let position = first_position + (n * THREADS_N + thread_n) * 4u + lane;
            let first_channel = position / area * params.out_channels + group * params.group_out;
            if position < params.positions {
                for (var m = 0u; m < THREAD_M; m++) {
                    let channel = block * TILE_M + (m / 4u * THREADS_M + thread_m) * 4u + m % 4u;
                    if channel < params.group_out {
                        let index = (first_channel + channel) * area + position % area;
                        output[index] = elem(sums[m * (THREAD_N / 4u) + n][lane]);
                    }
                }
            }
        }
    }
}
