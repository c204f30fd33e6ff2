// The fused passes of a cell, and of a batch of images, on the CPU, as a C library that knows neither
// Python nor torch.
//
// passes.inc is compiled once for any processor and, on x86, once more for those with AVX2 and FMA and
// once for those with AVX-512; the caller says which to run. Every function uses the thread it is called
// on alone, and gives the same bits each time.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#define PASS __attribute__((noinline))

#if defined(__GNUC__) // clang, too
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

namespace {

// Memory of one call, zero at first and aligned to cache lines.
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

} // namespace

#define VECTOR_BYTES 32
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
#define VECTOR_BYTES 64
namespace avx512 {
#include "passes.inc"
}
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

// Vectors of 64 bytes are for maps of whole ones: half of them would be read lane by lane.
#ifdef HAS_AVX2_PASSES
#define RUN(T, level, call)                                                                        \
    return level == 2 && C % (64 / long(sizeof(T))) == 0 ? avx512::call                            \
           : level >= 1                                        ? avx2::call                        \
                                                               : any_processor::call
#else
#define RUN(T, level, call) return any_processor::call
#endif

// What the batch norms of torch do with the statistics of a batch; `running_*` may be null.
template <class T>
static void norm_forward(const double *mean, const double *squares, double count, const T *weight,
                         const T *bias, double eps, double momentum, T *running_mean, T *running_var,
                         long C, T *scale, T *shift, double *inverse) {
    for (long c = 0; c < C; c++) {
        inverse[c] = 1 / std::sqrt(squares[c] / count + eps);
        scale[c] = T(weight[c] * inverse[c]);
        shift[c] = T(bias[c] - mean[c] * weight[c] * inverse[c]);
        running_mean[c] = T((1 - momentum) * running_mean[c] + momentum * mean[c]);
        running_var[c] = T((1 - momentum) * running_var[c] + momentum * squares[c] / (count - 1));
    }
}

// The gradients of weight and bias, and a, b, c0: before the norm the gradient is a g + b y + c0.
template <class T>
static void norm_backward(const double *g_sums, const double *gx_sums, const double *mean,
                          const double *inverse, double count, const T *weight, long C, T *g_weight,
                          T *g_bias, T *a, T *b, T *c0) {
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

// Batches of images on their way into a network: each is cut out of its image surrounded by black,
// mirrored where `flips` says so, looked up in `levels`, and blackened to 0 in a square. `pool` is
// N' x C x H x W bytes of which `indices` names N; `levels` is C x 256; out is N x H x W x C.
// CHANNELS is C where the compiler may know it, else 0.
template <class T, long CHANNELS>
static void augment_images(const uint8_t *pool, const int64_t *indices, const int64_t *corners,
                           const uint8_t *flips, const int64_t *centres, const T *levels, long N,
                           long num_channels, long H, long W, long padding, long length, T *out) {
    const long C = CHANNELS ? CHANNELS : num_channels;
    for (long n = 0; n < N; n++, out += H * W * C) {
        const uint8_t *image = pool + indices[n] * C * H * W;
        // The next image lies anywhere in memory: it is on its way while this one is augmented.
        if (n + 1 < N) {
            const uint8_t *next = pool + indices[n + 1] * C * H * W;
            for (long b = 0; b < C * H * W; b += 64) __builtin_prefetch(next + b);
        }
        const long top = corners[2 * n] - padding, left = corners[2 * n + 1] - padding;
        const long step = flips[n] ? -1 : 1, start = flips[n] ? left + W - 1 : left;
        // Columns from `inner` to `outer` come from the image, the others from around it.
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

template <class T>
static void augment(const uint8_t *pool, const int64_t *indices, const int64_t *corners,
                    const uint8_t *flips, const int64_t *centres, const T *levels, long N, long C,
                    long H, long W, long padding, long length, T *out) {
    const auto images = C == 1   ? augment_images<T, 1>
                        : C == 3 ? augment_images<T, 3>
                                 : augment_images<T, 0>;
    images(pool, indices, corners, flips, centres, levels, N, C, H, W, padding, length, out);
}

extern "C" {

// 1 where the passes for AVX2 and FMA were compiled and this processor has both, 2 where it has
// AVX-512, too; else 0.
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

#define EXPORT(T, suffix)                                                                          \
    void dtb_augment_##suffix(const uint8_t *pool, const int64_t *indices,                         \
                              const int64_t *corners, const uint8_t *flips,                        \
                              const int64_t *centres, const T *levels, long N, long C, long H,     \
                              long W, long padding, long length, T *out) {                         \
        augment<T>(pool, indices, corners, flips, centres, levels, N, C, H, W, padding, length,    \
                   out);                                                                           \
    }                                                                                              \
    void dtb_norm_forward_##suffix(const double *mean, const double *squares, double count,        \
                                   const T *weight, const T *bias, double eps, double momentum,    \
                                   T *running_mean, T *running_var, long C, T *scale, T *shift,    \
                                   double *inverse) {                                              \
        norm_forward<T>(mean, squares, count, weight, bias, eps, momentum, running_mean,           \
                        running_var, C, scale, shift, inverse);                                    \
    }                                                                                              \
    void dtb_norm_backward_##suffix(const double *g_sums, const double *gx_sums,                   \
                                    const double *mean, const double *inverse, double count,       \
                                    const T *weight, long C, T *g_weight, T *g_bias, T *a, T *b,   \
                                    T *c0) {                                                       \
        norm_backward<T>(g_sums, gx_sums, mean, inverse, count, weight, C, g_weight, g_bias, a, b, \
                         c0);                                                                      \
    }                                                                                              \
    void dtb_block_forward_##suffix(int level, const T *x, long x_stride, const T *scale,          \
                                    const T *shift, long N, long H, long W, long C, long k,        \
                                    long d, long s, const T *depthwise, const T *pointwise, T *y,  \
                                    double *mean, double *squares) {                               \
        RUN(T, level, block_forward<T>(x, x_stride, scale, shift, N, H, W, C, k, d, s, depthwise,  \
                                    pointwise, y, mean, squares));                                 \
    }                                                                                              \
    void dtb_block_backward_##suffix(                                                              \
        int level, const T *g, long g_stride, const T *weights, const T *y, const T *a,            \
        const T *b, const T *c0, const T *x, long x_stride, const T *scale, const T *shift,        \
        const double *x_mean, long N, long H, long W, long C, long k, long d, long s,              \
        const T *depthwise, const T *pointwise, T *x_gradient, long xg_stride, long add,           \
        T *g_depthwise, T *g_pointwise, double *g_sums, double *gx_sums) {                         \
        RUN(T, level, block_backward<T>(g, g_stride, weights, y, a, b, c0, x, x_stride, scale, shift, \
                                     x_mean, N, H, W, C, k, d, s, depthwise, pointwise,            \
                                     x_gradient, xg_stride, add, g_depthwise, g_pointwise, g_sums, \
                                     gx_sums));                                                    \
    }                                                                                              \
    void dtb_pointwise_forward_##suffix(int level, const T *x, long x_stride, long N, long H,      \
                                        long W, long C, long step, long offset, const T *weight,   \
                                        long Co, T *y, long y_stride, double *mean,                \
                                        double *squares) {                                         \
        RUN(T, level, pointwise_forward<T>(x, x_stride, N, H, W, C, step, offset, weight, Co, y,   \
                                        y_stride, mean, squares));                                 \
    }                                                                                              \
    void dtb_pointwise_backward_##suffix(                                                          \
        int level, const T *g, long g_stride, const T *weights, const T *y, long y_stride,         \
        const T *a, const T *b, const T *c0, const T *x, long x_stride, long N, long H, long W,    \
        long C, long step, long offset, const T *weight, long Co, T *x_gradient, long xg_stride,   \
        long add, T *g_weight) {                                                                   \
        RUN(T, level, pointwise_backward<T>(g, g_stride, weights, y, y_stride, a, b, c0, x, x_stride, \
                                         N, H, W, C, step, offset, weight, Co, x_gradient,         \
                                         xg_stride, add, g_weight));                               \
    }                                                                                              \
    void dtb_norm_sums_##suffix(int level, const T *g, long g_stride, const T *weights,            \
                                const T *y, long y_stride, const double *mean, long N,             \
                                long pixels, long C, double *g_sums, double *gx_sums) {            \
        RUN(T, level, norm_sums<T>(g, g_stride, weights, y, y_stride, mean, N, pixels, C, g_sums,  \
                                gx_sums));                                                         \
    }                                                                                              \
    void dtb_join_##suffix(int level, const T *one, long one_stride, const T *one_scale,           \
                           const T *one_shift, const T *one_weights, const T *two,                 \
                           long two_stride, const T *two_scale, const T *two_shift,                \
                           const T *two_weights, long N, long pixels, long C, T *out,              \
                           long out_stride) {                                                      \
        RUN(T, level, join<T>(one, one_stride, one_scale, one_shift, one_weights, two, two_stride, \
                           two_scale, two_shift, two_weights, N, pixels, C, out, out_stride));     \
    }                                                                                              \
    void dtb_copy_##suffix(int level, const T *x, long x_stride, const T *scale, const T *shift,   \
                           const T *weights, long N, long pixels, long C, T *out, long out_stride, \
                           long add) {                                                             \
        RUN(T, level, copy<T>(x, x_stride, scale, shift, weights, N, pixels, C, out, out_stride,   \
                           add));                                                                  \
    }                                                                                              \
    void dtb_pool_forward_##suffix(int level, const T *x, long x_stride, long N, long H, long W,   \
                                   long C, long s, T *y, uint8_t *which) {                         \
        RUN(T, level, pool_forward<T>(x, x_stride, N, H, W, C, s, y, which));                      \
    }                                                                                              \
    void dtb_pool_backward_##suffix(int level, const T *g, long g_stride, const T *weights,        \
                                    const uint8_t *which, long N, long H, long W, long C, long s,  \
                                    T *x_gradient, long xg_stride, long add) {                     \
        RUN(T, level, pool_backward<T>(g, g_stride, weights, which, N, H, W, C, s, x_gradient,     \
                                    xg_stride, add));                                              \
    }

EXPORT(float, f32)
EXPORT(double, f64)
}
