// The mistakes of tests/mistakes.rs, in C: the name of one is the first argument. Built without optimisation.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IS(name) (strcmp(which, name) == 0)

static char elsewhere[64];
static volatile char sink;

static char *block(size_t bytes) {
    char *made = malloc(bytes);
    memset(made, 1, bytes);
    return made;
}

// So many other blocks come and go.
static void others(int count) {
    for (int n = 0; n < count; n++) free(block(24));
}

static void *free_it(void *made) {
    free(made);
    return NULL;
}

static void work(void) {
    char *live[1000] = {0};
    uint32_t random = 1;
    for (int n = 0; n < 300000; n++) {
        random = random * 1664525u + 1013904223u;
        size_t at = (random >> 8) % 1000, bytes = 16 + (random >> 20) % 500;
        free(live[at]);
        live[at] = malloc(bytes);
        memset(live[at], n, 16);
    }
    for (int at = 0; at < 1000; at++) free(live[at]);
}

int main(int count, char **arguments) {
    const char *which = count > 1 ? arguments[1] : "none";
    char *one = block(24), *other = block(24);
    if (IS("work")) work();
    else if (IS("leak")) { one = NULL; one = block(24); }
    else if (IS("double free")) { free(one); free(one); return 0; }
    else if (IS("double free, another between")) { free(one); free(other); free(one); return 0; }
    else if (IS("double free, 1000 others between")) { free(one); others(1000); free(one); return 0; }
    else if (IS("double free by two threads")) {
        pthread_t thread;
        pthread_create(&thread, NULL, free_it, one);
        pthread_join(thread, NULL);
        free(one);
        return 0;
    }
    else if (IS("free of a pointer into a block")) { free(one + 8); }
    else if (IS("free of a foreign pointer")) { free(elsewhere + 16); }
    else if (IS("realloc of a freed block")) { free(one); one = realloc(one, 500); return 0; }
    else if (IS("write 1 byte past the end, length 24")) { one[24] = 2; }
    else if (IS("write 1 byte past the end, length 13")) { char *odd = block(13); odd[13] = 2; free(odd); }
    else if (IS("write past the end of 1 MiB")) { char *big = block(1 << 20); big[1 << 20] = 2; free(big); }
    else if (IS("write 100 bytes past the end")) { one[24 + 100] = 2; }
    else if (IS("write 1 byte before the start")) { one[-1] = 2; }
    else if (IS("write 12 bytes before the start")) { one[-12] = 2; }
    else if (IS("read past the end")) { sink = one[24]; }
    else if (IS("read before the start")) { sink = one[-1]; }
    else if (IS("write after free")) { free(one); one[3] = 2; one = block(700); }
    else if (IS("write after free, 1000 others between")) { free(one); others(1000); one[3] = 2; one = block(700); }
    else if (IS("read after free")) { free(one); sink = one[3]; one = block(700); }
    else if (IS("write through a pointer from before a realloc")) {
        char *old = one;
        one = realloc(one, 5000);
        old[3] = 2;
    }
    else if (IS("a decision on a byte never written")) { char *fresh = malloc(24); if (fresh[5] > 3) sink = 1; free(fresh); }
    free(one);
    free(other);
    return 0;
}
