// What a program in C++ sees when memory runs out. Started by preload.rs, with the library and without it.

#include <cstdint>
#include <cstdio>
#include <list>
#include <new>
#include <string>

static int calls;

static void handler() {
    if (++calls == 3) throw std::bad_alloc();
}

static const std::size_t huge = std::size_t(1) << 62;

static const char *plain() {
    try {
        void *volatile block = ::operator new(huge);
        return block ? "block" : "null";
    } catch (const std::bad_alloc &) {
        return "bad_alloc";
    }
}

static const char *nothrow() {
    void *volatile block = ::operator new(huge, std::nothrow);
    return block ? "block" : "null";
}

int main() {
    std::printf("%s\n", plain());
    std::set_new_handler(handler);
    const char *said = plain();
    std::printf("handler %d %s\n", calls, said);
    std::set_new_handler(nullptr);
    std::printf("nothrow %s\n", nothrow());
    calls = 0;
    std::set_new_handler(handler);
    said = nothrow();
    std::printf("handler %d nothrow %s\n", calls, said);
    std::set_new_handler(nullptr);

    struct alignas(256) Wide { char bytes[300]; };
    Wide *wide = new Wide;
    std::printf("aligned %d\n", reinterpret_cast<std::uintptr_t>(wide) % 256 == 0 ? 256 : 0);
    delete wide;

    std::list<std::string> list;
    for (int n = 0; n < 100000; n++) list.push_back(std::string(n % 100, 'x'));
    std::printf("lists %zu\n", list.size());
}
