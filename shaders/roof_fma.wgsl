// Multiply-adds and nothing else: how many of them the device does in a second at most.
//
// An invocation keeps CHAINS vectors that do not depend on each other, so that no multiply-add has to wait for the one
// before it. Their values are whole numbers that every element type has, and their sum tells how often each was added to.
//
// weight  factor and summand, a vector of ones each: a compiler cannot know
// output  one sum for each invocation
//
// CHAINS is from 1 to 8, STEPS at most 1024.

alias elem = f32;

override CHAINS: u32 = 4u;
override STEPS: u32 = 256u;
override ROUNDS: u32 = 16u;
override WORKGROUP: u32 = 64u;

struct Params {
    // Workgroups first to end - 1 are computed, in rows of row_length.
    first: u32,
    end: u32,
    row_length: u32,
}

@group(0) @binding(2) var<storage, read> weight: array<vec4<elem>>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

fn total(x: vec4<elem>) -> f32 {
    return f32(x.x) + f32(x.y) + f32(x.z) + f32(x.w);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let workgroup = params.first + group.y * params.row_length + group.x;
    if workgroup >= params.end {
        return;
    }
    let factor = weight[0];
    let summand = weight[1];
    var sum = 0.0;
    for (var round = 0u; round < ROUNDS; round++) {
        let start = vec4<elem>(elem(local % 8u + round % 8u));
        var x0 = start;
        var x1 = start + vec4<elem>(elem(1u));
        var x2 = start + vec4<elem>(elem(2u));
        var x3 = start + vec4<elem>(elem(3u));
        var x4 = start + vec4<elem>(elem(4u));
        var x5 = start + vec4<elem>(elem(5u));
        var x6 = start + vec4<elem>(elem(6u));
        var x7 = start + vec4<elem>(elem(7u));
        for (var step = 0u; step < STEPS; step++) {
            x0 = fma(x0, factor, summand);
            if CHAINS > 1u { x1 = fma(x1, factor, summand); }
            if CHAINS > 2u { x2 = fma(x2, factor, summand); }
            if CHAINS > 3u { x3 = fma(x3, factor, summand); }
            if CHAINS > 4u { x4 = fma(x4, factor, summand); }
            if CHAINS > 5u { x5 = fma(x5, factor, summand); }
            if CHAINS > 6u { x6 = fma(x6, factor, summand); }
            if CHAINS > 7u { x7 = fma(x7, factor, summand); }
        }
        sum += total(x0);
        if CHAINS > 1u { sum += total(x1); }
        if CHAINS > 2u { sum += total(x2); }
        if CHAINS > 3u { sum += total(x3); }
        if CHAINS > 4u { sum += total(x4); }
        if CHAINS > 5u { sum += total(x5); }
        if CHAINS > 6u { sum += total(x6); }
        if CHAINS > 7u { sum += total(x7); }
    }
    output[workgroup * WORKGROUP + local] = sum;
}
