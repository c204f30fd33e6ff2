// Runs kernels of passes.cu on the CPU: the threads of a block are fibres that meet at barriers.

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

struct Index {
    int x, y;
};
static Index threadIdx, blockIdx, gridDim, blockDim;

struct Fibre {
    ucontext_t context;
    jmp_buf at;
    std::unique_ptr<char[]> stack;
    bool begun, done;
};
static Fibre *running;
static jmp_buf scheduler;

// Unlike swapcontext, these jumps make no system call.
static void barrier() {
    if (!_setjmp(running->at)) _longjmp(scheduler, 1);
}
static void go_on(Fibre *fibre) {
    running = fibre;
    if (_setjmp(scheduler)) return;
    if (fibre->begun) _longjmp(fibre->at, 1);
    fibre->begun = true;
    setcontext(&fibre->context);
}
template <class A> static A min(A a, A b) { return a < b ? a : b; }
template <class A> static A max(A a, A b) { return a > b ? a : b; }

struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};
struct double2 {
    double x, y;
};
struct uchar4 {
    unsigned char x, y, z, w;
};
struct ushort2 {
    unsigned short x, y;
};
struct ushort4 {
    unsigned short x, y, z, w;
};
template <class A> static A __ldg(const A *p) { return *p; }
static double __shfl_xor_sync(unsigned, double value, int lane) {
    static double exchanged[1024];
    exchanged[threadIdx.x] = value;
    barrier();
    const double other = exchanged[threadIdx.x ^ lane];
    barrier();
    return other;
}

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define __syncthreads barrier
#include "passes.cu"

static void (*run_kernel)(void **);
static void **kernel_arguments;

// What a fibre does: a thread of one block after the other.
static void enter() {
    while (true) {
        run_kernel(kernel_arguments);
        running->done = true;
        barrier();
    }
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*(A *)arguments[I]...);
}
template <class... A> static void call(void (*kernel)(A...), void **arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>{});
}

static void (*find(const char *name))(void **) {
#define RUN(kernel)                                                                                \
    if (!std::strcmp(name, #kernel)) return [](void **arguments) { call(kernel, arguments); };
#define OF_WIDTHS(kernel) RUN(kernel##_16) RUN(kernel##_32) RUN(kernel##_64)
#define OF_SHAPES(kernel)                                                                          \
    RUN(kernel##_311) RUN(kernel##_312) RUN(kernel##_321) RUN(kernel##_322)            \
    RUN(kernel##_511) RUN(kernel##_512) RUN(kernel##_521) RUN(kernel##_522)
    RUN(norm_forward) RUN(norm_backward) RUN(norm_sums)
    RUN(pointwise_weight) RUN(add_shares)
    RUN(join) RUN(copy) RUN(pool_forward) RUN(pool_backward)
    OF_WIDTHS(pointwise_forward) OF_WIDTHS(pointwise_input)
    OF_SHAPES(depthwise_forward) OF_SHAPES(depthwise_backward)
    return nullptr;
}

// Run a kernel as cuLaunchKernel would, block after block; 0, or 1 if there is no such kernel.
extern "C" int launch(const char *name, int blocks_x, int blocks_y, int threads, void **arguments) {
    constexpr size_t stack = 1 << 16;
    static std::vector<std::unique_ptr<Fibre>> fibres;
    run_kernel = find(name);
    if (!run_kernel) return 1;
    kernel_arguments = arguments;
    gridDim = {blocks_x, blocks_y};
    blockDim = {threads, 1};
    while (int(fibres.size()) < threads) {
        Fibre &fibre = *fibres.emplace_back(std::make_unique<Fibre>());
        fibre.stack = std::make_unique<char[]>(stack);
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.get();
        fibre.context.uc_stack.ss_size = stack;
        makecontext(&fibre.context, enter, 0);
    }
    for (int block = 0; block < blocks_x * blocks_y; block++) {
        blockIdx = {block % blocks_x, block / blocks_x};
        for (int t = 0; t < threads; t++) fibres[t]->done = false;
        for (int num_running = threads; num_running > 0;)
            for (int t = 0; t < threads; t++) {
                if (fibres[t]->done) continue;
                threadIdx = {t, 0};
                go_on(fibres[t].get());
                num_running -= fibres[t]->done;
            }
    }
    return 0;
}
