// A copy of a buffer that no cache holds: how many bytes the device moves in a second at most.
//
// A workgroup copies WORKGROUP * VECTORS neighbouring vectors. Both buffers have a multiple of that.
//
// input, output   vectors of four words, whatever they mean

override VECTORS: u32 = 16u;
override WORKGROUP: u32 = 64u;

struct Params {
    // Workgroups first to end - 1 are computed, in rows of row_length.
    first: u32,
    end: u32,
    row_length: u32,
}

@group(0) @binding(0) var<storage, read> input: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<u32>>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let workgroup = params.first + group.y * params.row_length + group.x;
    if workgroup >= params.end {
        return;
    }
    let begin = workgroup * WORKGROUP * VECTORS + local;
    for (var i = 0u; i < VECTORS; i++) {
        output[begin + i * WORKGROUP] = input[begin + i * WORKGROUP];
    }
}
