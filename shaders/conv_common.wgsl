// What every convolution is given; it stands behind the source of each.

struct Params {
    // Workgroups first to end - 1 are computed, in rows of row_length.
    first: u32,
    end: u32,
    row_length: u32,
    images: u32,
    in_channels: u32,
    out_channels: u32,
    group_in: u32,
    group_out: u32,
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    pad_top: u32,
    pad_left: u32,
    // Number of tiles in each direction, and of blocks of output channels in a group.
    tiles_x: u32,
    tiles_y: u32,
    blocks: u32,
    // Taps of one output: input channels of the group times the window's area.
    depth: u32,
    // All tiles of all images.
    items: u32,
    // Positions of all images.
    positions: u32,
}

@group(0) @binding(0) var<storage, read> input: array<elem>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<elem>>;
@group(0) @binding(3) var<storage, read_write> output: array<elem>;
@group(0) @binding(4) var<uniform> params: Params;
