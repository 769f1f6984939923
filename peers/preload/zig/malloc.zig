//! Zig's own SmpAllocator behind the C interface, for `cargo lab bench smp`.
//!
//! Zig's free is told the length of the block and C's is not, so each block has a header of 16 bytes with its length:
//! the one contestant that pays for a layer between. Build: `zig build-lib -dynamic -lc -OReleaseFast malloc.zig`.

const std = @import("std");

const allocator = std.heap.smp_allocator;
const header = 16;
const alignment: std.mem.Alignment = .@"16";

fn whole(block: *anyopaque) []u8 {
    const start = @as([*]u8, @ptrCast(block)) - header;
    const len: *usize = @ptrCast(@alignCast(start));
    return start[0..len.*];
}

fn user(start: [*]u8, len: usize) *anyopaque {
    @as(*usize, @ptrCast(@alignCast(start))).* = len;
    return @ptrCast(start + header);
}

export fn malloc(size: usize) callconv(.c) ?*anyopaque {
    if (size > std.math.maxInt(isize) - header) return null;
    const len = size + header;
    const start = allocator.rawAlloc(len, alignment, 0) orelse return null;
    return user(start, len);
}

export fn free(block: ?*anyopaque) callconv(.c) void {
    const live = block orelse return;
    allocator.rawFree(whole(live), alignment, 0);
}

export fn calloc(count: usize, size: usize) callconv(.c) ?*anyopaque {
    const len = std.math.mul(usize, count, size) catch return null;
    const block = malloc(len) orelse return null;
    @memset(@as([*]u8, @ptrCast(block))[0..len], 0);
    return block;
}

export fn realloc(block: ?*anyopaque, size: usize) callconv(.c) ?*anyopaque {
    const old = block orelse return malloc(size);
    if (size > std.math.maxInt(isize) - header) return null;
    const memory = whole(old);
    const len = size + header;
    if (allocator.rawRemap(memory, alignment, len, 0)) |moved| return user(moved, len);
    const new = malloc(size) orelse return null;
    const kept = @min(memory.len - header, size);
    @memcpy(@as([*]u8, @ptrCast(new))[0..kept], @as([*]u8, @ptrCast(old))[0..kept]);
    free(old);
    return new;
}
