//! The mistakes of tests/mistakes.rs, over Zig's DebugAllocator: the name of one is in the variable MISTAKE.
const std = @import("std");

extern "c" fn getenv(name: [*:0]const u8) ?[*:0]const u8;

var elsewhere: [64]u8 = undefined;
var sink: u8 = 0;
var debug: std.heap.DebugAllocator(.{}) = .init;

fn is(which: []const u8, name: []const u8) bool {
    return std.mem.eql(u8, which, name);
}

fn block(a: std.mem.Allocator, bytes: usize) []u8 {
    const made = a.alloc(u8, bytes) catch unreachable;
    @memset(made, 1);
    return made;
}

fn others(a: std.mem.Allocator, count: usize) void {
    for (0..count) |_| a.free(block(a, 24));
}

fn freeIt(a: std.mem.Allocator, made: []u8) void {
    a.free(made);
}

fn work(a: std.mem.Allocator) void {
    var live: [1000][]u8 = @splat(&.{});
    var random: u32 = 1;
    for (0..300000) |n| {
        random = random *% 1664525 +% 1013904223;
        const place = (random >> 8) % 1000;
        const bytes = 16 + (random >> 20) % 500;
        if (live[place].len > 0) a.free(live[place]);
        live[place] = a.alloc(u8, bytes) catch unreachable;
        @memset(live[place][0..16], @truncate(n));
    }
    for (live) |made| if (made.len > 0) a.free(made);
}

/// Past what the slice says.
fn at(made: []u8, offset: isize) *volatile u8 {
    return @ptrFromInt(@intFromPtr(made.ptr) +% @as(usize, @bitCast(offset)));
}

pub fn main() void {
    const which = std.mem.span(getenv("MISTAKE") orelse "none");
    const how = std.mem.span(getenv("TERRACE_MISTAKE_CONFIG") orelse "debug");
    if (is(how, "without")) return work(std.heap.smp_allocator);
    const a = debug.allocator();
    if (is(which, "work")) return work(a);
    var one = block(a, 24);
    var ended = false;
    const other = block(a, 24);
    if (is(which, "leak")) {
        ended = true;
    } else if (is(which, "double free")) {
        a.free(one);
    } else if (is(which, "double free, another between")) {
        a.free(one);
        a.free(block(a, 24));
    } else if (is(which, "double free, 1000 others between")) {
        a.free(one);
        others(a, 1000);
    } else if (is(which, "double free by two threads")) {
        const thread = std.Thread.spawn(.{}, freeIt, .{ a, one }) catch unreachable;
        thread.join();
    } else if (is(which, "free of a pointer into a block")) {
        a.free(one[8..]);
    } else if (is(which, "free of a foreign pointer")) {
        a.free(elsewhere[16..40]);
    } else if (is(which, "free to the wrong of two allocators")) {
        var second: std.heap.DebugAllocator(.{}) = .init;
        second.allocator().free(one);
    } else if (is(which, "free with a wrong length")) {
        a.free(one[0..20]);
        ended = true;
    } else if (is(which, "free with a wrong alignment")) {
        a.rawFree(one, .@"8", @returnAddress());
        ended = true;
    } else if (is(which, "resize with a wrong length")) {
        _ = a.resize(one[0..20], 10);
    } else if (is(which, "realloc of a freed block")) {
        a.free(one);
        one = a.realloc(one, 500) catch unreachable;
    } else if (is(which, "write 1 byte past the end, length 24")) {
        at(one, 24).* = 2;
    } else if (is(which, "write 1 byte past the end, length 13")) {
        const odd = block(a, 13);
        at(odd, 13).* = 2;
        a.free(odd);
    } else if (is(which, "write past the end of 1 MiB")) {
        const big = block(a, 1 << 20);
        at(big, 1 << 20).* = 2;
        a.free(big);
    } else if (is(which, "write 100 bytes past the end")) {
        at(one, 124).* = 2;
    } else if (is(which, "write 1 byte before the start")) {
        at(one, -1).* = 2;
    } else if (is(which, "write 12 bytes before the start")) {
        at(one, -12).* = 2;
    } else if (is(which, "read past the end")) {
        sink = at(one, 24).*;
    } else if (is(which, "read before the start")) {
        sink = at(one, -1).*;
    } else if (is(which, "write after free")) {
        a.free(one);
        at(one, 3).* = 2;
        ended = true;
    } else if (is(which, "write after free, 1000 others between")) {
        a.free(one);
        others(a, 1000);
        at(one, 3).* = 2;
        ended = true;
    } else if (is(which, "read after free")) {
        a.free(one);
        sink = at(one, 3).*;
        ended = true;
    } else if (is(which, "write through a pointer from before a realloc")) {
        const old = one;
        one = a.realloc(one, 5000) catch unreachable;
        at(old, 3).* = 2;
    } else if (is(which, "a decision on a byte never written")) {
        const fresh = a.alloc(u8, 24) catch unreachable;
        if (fresh[5] > 3) sink = 1;
        a.free(fresh);
    }
    if (!ended) a.free(one);
    a.free(other);
    if (debug.deinit() == .leak) std.process.exit(3);
}
