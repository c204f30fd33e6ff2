// The fused passes of a cell, and image augmentation, on the CPU: a C library that needs neither Python
// nor torch.
//
// passes.inc is compiled for any processor and, on x86, also for AVX2 with FMA and for AVX-512; the
// caller chooses. Every function runs on the calling thread only and gives the same bits each time.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

// Defines a pass and the text of its arguments, in which Python reads their names, kinds and order.
#define DEFINE(name, arguments)                                                                    \
    constexpr char name##_arguments[] = #arguments;                                                \
    template <class T> void name arguments

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#define PASS __attribute__((noinline))

#if defined(__GNUC__) // clang, too
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

namespace {

// Scratch memory of one call, set to zero and aligned to cache lines.
template <class T> class Scratch {
  public:
    explicit Scratch(long count) {
        const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
        data_ = static_cast<T *>(std::aligned_alloc(64, bytes ? bytes : 64));
        if (!data_) throw std::bad_alloc();
        std::memset(data_, 0, bytes);
    }
    ~Scratch() { std::free(data_); }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    operator T *() { return data_; }

  private:
    T *data_;
};

void clear(long C, double *one, double *two) {
    std::fill(one, one + C, 0.0);
    std::fill(two, two + C, 0.0);
}

} // namespace

#define VECTOR_BYTES 32
#define TILE_VECTORS 8
namespace any_processor {
#include "passes.inc"
}

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#define HAS_AVX2_PASSES 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#include "passes.inc"
}
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,prefer-vector-width=512")
#endif
#undef VECTOR_BYTES
#undef TILE_VECTORS
#define VECTOR_BYTES 64
#define TILE_VECTORS 16
namespace avx512 {
#include "passes.inc"
}
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace {

// The batch norm's scale and shift from the batch statistics; updates the running statistics as torch.
DEFINE(norm_forward, (long C, const double *mean, const double *squares, double count, const T *weight,
                      const T *bias, double eps, double momentum, T *running_mean, T *running_var,
                      T *scale, T *shift, double *inverse)) {
    for (long c = 0; c < C; c++) {
        inverse[c] = 1 / std::sqrt(squares[c] / count + eps);
        scale[c] = T(weight[c] * inverse[c]);
        shift[c] = T(bias[c] - mean[c] * weight[c] * inverse[c]);
        running_mean[c] = T((1 - momentum) * running_mean[c] + momentum * mean[c]);
        running_var[c] = T((1 - momentum) * running_var[c] + momentum * squares[c] / (count - 1));
    }
}

// The gradients of weight and bias, and the coefficients of the input's gradient, a g + b y + c0.
DEFINE(norm_backward, (long C, const double *g_sums, const double *gx_sums, const double *mean,
                       const double *inverse, double count, const T *weight, T *g_weight, T *g_bias,
                       T *a, T *b, T *c0)) {
    for (long c = 0; c < C; c++) {
        const double slope = weight[c] * inverse[c];
        const double curve = -slope * inverse[c] * inverse[c] * gx_sums[c] / count;
        g_weight[c] = T(gx_sums[c] * inverse[c]);
        g_bias[c] = T(g_sums[c]);
        a[c] = T(slope);
        b[c] = T(curve);
        c0[c] = T(-slope * g_sums[c] / count - curve * mean[c]);
    }
}

// Augments a batch: crops each padded image, mirrors it where `flips` says so, normalises it by the
// table `levels`, and sets a square of it to 0 (cutout). `pool` is all images, N' x C x H x W bytes, and
// `indices` selects N of them; `levels` is C x 256; out is N x H x W x C. CHANNELS is C as a
// compile-time constant, or 0.
template <class T, long CHANNELS>
void augment_images(const uint8_t *pool, const int64_t *indices, const int64_t *corners,
                           const uint8_t *flips, const int64_t *centres, const T *levels, long N,
                           long num_channels, long H, long W, long padding, long length, T *out) {
    const long C = CHANNELS ? CHANNELS : num_channels;
    for (long n = 0; n < N; n++, out += H * W * C) {
        const uint8_t *image = pool + indices[n] * C * H * W;
        // Prefetch the next image, which may be anywhere in the pool.
        if (n + 1 < N) {
            const uint8_t *next = pool + indices[n + 1] * C * H * W;
            for (long b = 0; b < C * H * W; b += 64) __builtin_prefetch(next + b);
        }
        const long top = corners[2 * n] - padding, left = corners[2 * n + 1] - padding;
        const long step = flips[n] ? -1 : 1, start = flips[n] ? left + W - 1 : left;
        // Columns from `inner` to `outer` come from the image, the others from its padding.
        const long inner = std::max(flips[n] ? start - W + 1 : -start, 0L);
        const long outer = std::min(flips[n] ? start + 1 : W - start, W);
        for (long h = 0; h < H; h++) {
            const long y = top + h;
            const bool has_pixels = y >= 0 && y < H && inner < outer;
            const long begin = has_pixels ? inner : W, end = has_pixels ? outer : W;
            T *pixel = out + h * W * C;
            for (long w = 0; w < begin; w++, pixel += C)
                for (long c = 0; c < C; c++) pixel[c] = levels[256 * c];
            const uint8_t *shown = image + y * W + start + begin * step;
            for (long w = begin; w < end; w++, pixel += C, shown += step)
                for (long c = 0; c < C; c++) pixel[c] = levels[256 * c + shown[c * H * W]];
            for (long w = end; w < W; w++, pixel += C)
                for (long c = 0; c < C; c++) pixel[c] = levels[256 * c];
        }
        const long first_row = centres[2 * n] - length / 2;
        const long first_column = centres[2 * n + 1] - length / 2;
        const long begin = std::max(first_column, 0L), end = std::min(first_column + length, W);
        for (long h = std::max(first_row, 0L); h < std::min(first_row + length, H); h++)
            if (begin < end) std::fill(out + (h * W + begin) * C, out + (h * W + end) * C, T(0));
    }
}

DEFINE(augment, (long C, const uint8_t *pool, const int64_t *indices, const int64_t *corners,
                 const uint8_t *flips, const int64_t *centres, const T *levels, long N, long H, long W,
                 long padding, long length, T *out)) {
    const auto images = C == 1   ? augment_images<T, 1>
                        : C == 3 ? augment_images<T, 3>
                                 : augment_images<T, 0>;
    images(pool, indices, corners, flips, centres, levels, N, C, H, W, padding, length, out);
}

// An argument as the caller packs it: eight bytes of any kind.
union Word {
    int64_t whole;
    double real;
    void *address;
};

template <class A> A unpacked(const Word &word) {
    if constexpr (std::is_pointer_v<A>) return static_cast<A>(word.address);
    else if constexpr (std::is_same_v<A, double>) return word.real;
    else return A(word.whole);
}

template <class... A, size_t... I>
void call(void (*pass)(A...), const Word *words, std::index_sequence<I...>) {
    pass(unpacked<A>(words[I])...);
}
template <class... A> void call(void (*pass)(A...), const Word *words) {
    call(pass, words, std::index_sequence_for<A...>{});
}

struct Pass {
    const char *name, *arguments;
    void (*run)(int level, const Word *words);
};

// AVX-512 only where the channels fill whole vectors: a partial vector is read lane by lane. The first
// `counts` arguments of a pass are numbers of channels.
#ifdef HAS_AVX2_PASSES
template <class T> bool fill_vectors(const Word *words, int counts) {
    return std::all_of(words, words + counts,
                       [](const Word &word) { return word.whole % (64 / int(sizeof(T))) == 0; });
}
#define OVER_MAPS(name, counts)                                                                    \
    {#name, any_processor::name##_arguments, [](int level, const Word *words) {                    \
         if (level == 2 && fill_vectors<T>(words, counts)) call(avx512::name<T>, words);           \
         else if (level >= 1) call(avx2::name<T>, words);                                          \
         else call(any_processor::name<T>, words);                                                 \
     }}
#else
#define OVER_MAPS(name, counts)                                                                    \
    {#name, any_processor::name##_arguments,                                                       \
     [](int, const Word *words) { call(any_processor::name<T>, words); }}
#endif
#define OF_ANY_LEVEL(name)                                                                         \
    {#name, name##_arguments, [](int, const Word *words) { call(name<T>, words); }}

template <class T>
const Pass passes[] = {
    OVER_MAPS(block_forward, 1),      OVER_MAPS(block_backward, 1), OVER_MAPS(pointwise_forward, 2),
    OVER_MAPS(pointwise_backward, 2), OVER_MAPS(norm_sums, 1),      OVER_MAPS(join, 1),
    OVER_MAPS(copy, 1),               OVER_MAPS(pool_forward, 1),   OVER_MAPS(pool_backward, 1),
    OF_ANY_LEVEL(norm_forward),       OF_ANY_LEVEL(norm_backward),  OF_ANY_LEVEL(augment),
    {nullptr, nullptr, nullptr},
};

} // namespace

extern "C" {

// The best level that is compiled and that this processor supports: 0 portable, 1 AVX2 with FMA,
// 2 AVX-512.
int dtb_best_level() {
#ifdef HAS_AVX2_PASSES
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
               ? 2
               : 1;
#else
    return 0;
#endif
}

// All passes; the last entry has no name.
const Pass *dtb_passes_f32() { return passes<float>; }
const Pass *dtb_passes_f64() { return passes<double>; }
}
