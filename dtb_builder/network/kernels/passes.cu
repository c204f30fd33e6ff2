// The kernels for a GPU, compiled on first use for one type: ELEMENT is float or double. With BFLOAT16,
// maps and their gradients are stored in bfloat16; everything is computed in ELEMENT.
//
// Maps are N x H x W pixels of C channels, channels last. `stride` is the distance between pixels in
// elements, so that maps may be a range of the channels of a wider tensor. Channels, strides and
// addresses are multiples of four elements: a thread works on four or two channels. For a sum over
// pixels, each block writes a partial sum, and these are added in a fixed order: no atomics, so the
// same bits each time.

typedef ELEMENT T;
typedef unsigned char Byte;
// A float without the last 16 bits of its fraction, rounded to the nearest, of two to the even one.
struct Bfloat16 {
    unsigned short bits;
    Bfloat16() = default;
    __device__ inline Bfloat16(float x) {
        union {
            float real;
            unsigned bits;
        } word{x};
        const bool is_number = x == x;
        bits = is_number ? (word.bits + 0x7fffu + (word.bits >> 16 & 1u)) >> 16 : 0x7fc0;
    }
    __device__ inline operator float() const {
        union {
            unsigned bits;
            float real;
        } word{unsigned(bits) << 16};
        return word.real;
    }
};
#ifdef BFLOAT16
typedef Bfloat16 Stored;
#else
typedef T Stored;
#endif
struct alignas(16) Quad {
    T v[4];
};
struct alignas(2 * sizeof(T)) Pair {
    T v[2];
};

// Kernels are declared with KERNEL or BOUNDED: cuda.py reads the names of their arguments here.
#define KERNEL extern "C" __global__ void
#define BOUNDED(...) KERNEL __launch_bounds__(__VA_ARGS__)

#define UNROLLED _Pragma("unroll")
#define UNROLLED_4 _Pragma("unroll 4")
#define UNROLLED_8 _Pragma("unroll 8")
#define EACH_OF_4(i) UNROLLED for (int i = 0; i < 4; i++)

__device__ inline T relu(T x) { return x < 0 ? T(0) : x; }
__device__ inline Quad get(const T *p) { return *(const Quad *)p; }

// Reads memory that the kernel does not write, so that the compiler may move reads before writes.
__device__ inline Quad read(const float *p) {
    const float4 q = __ldg((const float4 *)p);
    return {T(q.x), T(q.y), T(q.z), T(q.w)};
}
__device__ inline Quad read(const double *p) {
    const double2 q = __ldg((const double2 *)p), r = __ldg((const double2 *)p + 1);
    return {T(q.x), T(q.y), T(r.x), T(r.y)};
}
__device__ inline Pair read_pair(const float *p) {
    const float2 q = __ldg((const float2 *)p);
    return {T(q.x), T(q.y)};
}
__device__ inline Pair read_pair(const double *p) {
    const double2 q = __ldg((const double2 *)p);
    return {T(q.x), T(q.y)};
}
__device__ inline Quad read(const Bfloat16 *p) {
    const ushort4 q = __ldg((const ushort4 *)p);
    const unsigned short bits[4] = {q.x, q.y, q.z, q.w};
    Quad out;
    EACH_OF_4(i) {
        Bfloat16 value;
        value.bits = bits[i];
        out.v[i] = T(float(value));
    }
    return out;
}
__device__ inline Pair read_pair(const Bfloat16 *p) {
    const ushort2 q = __ldg((const ushort2 *)p);
    Bfloat16 one, two;
    one.bits = q.x, two.bits = q.y;
    return {T(float(one)), T(float(two))};
}
// Both return what is stored.
__device__ inline Quad put(T *p, Quad q, int add) {
    if (add) {
        const Quad there = get(p);
        EACH_OF_4(i) q.v[i] += there.v[i];
    }
    *(Quad *)p = q;
    return q;
}
__device__ inline Quad put(Bfloat16 *p, Quad q, int add) {
    Bfloat16 rounded[4];
    EACH_OF_4(i) rounded[i] = Bfloat16(float(add ? q.v[i] + T(float(p[i])) : q.v[i]));
    *(ushort4 *)p = ushort4{rounded[0].bits, rounded[1].bits, rounded[2].bits, rounded[3].bits};
    EACH_OF_4(i) q.v[i] = T(float(rounded[i]));
    return q;
}
__device__ inline Pair get_pair(const T *p) { return *(const Pair *)p; }
__device__ inline Pair get_pair(const Bfloat16 *p) { return {T(float(p[0])), T(float(p[1]))}; }
__device__ inline void put_pair(T *p, Pair q) { *(Pair *)p = q; }
__device__ inline void put_pair(Bfloat16 *p, Pair q) {
    *(ushort2 *)p = ushort2{Bfloat16(float(q.v[0])).bits, Bfloat16(float(q.v[1])).bits};
}
// What is read again of a value that is written to a map.
__device__ inline T stored(T value) { return T(Stored(value)); }

// Sums the rows of a matrix in shared memory into its first row, in a fixed order. All threads of the
// block have written the matrix, and several threads sum each column.
template <class U> __device__ inline void add_rows(U *shared, int rows, int width) {
    const int parts = min(rows, max(1, int(blockDim.x) / width));
    const int part = threadIdx.x / width, column = threadIdx.x % width;
    __syncthreads();
    if (parts > 1) {
        U sum = 0;
        if (part < parts) {
            UNROLLED_4 for (int r = part; r < rows; r += parts) sum += shared[r * width + column];
        }
        __syncthreads();
        if (part < parts) shared[part * width + column] = sum;
        __syncthreads();
    }
    for (int e = threadIdx.x; e < width; e += blockDim.x) {
        U sum = shared[e];
        for (int r = 1; r < (parts > 1 ? parts : rows); r++) sum += shared[r * width + e];
        shared[e] = sum;
    }
    __syncthreads();
}

// ---- batch norms -------------------------------------------------------------------------------
// Sums per channel are C x rows doubles, with a partial sum from each block. Totals replace the first.

// Sums two values over the 128 threads of a block.
__device__ inline void sum_of_block(double &one, double &two) {
    __shared__ double shared[2][4];
    UNROLLED for (int lane = 16; lane > 0; lane /= 2) {
        one += __shfl_xor_sync(0xffffffffu, one, lane);
        two += __shfl_xor_sync(0xffffffffu, two, lane);
    }
    if (threadIdx.x % 32 == 0) {
        shared[0][threadIdx.x / 32] = one;
        shared[1][threadIdx.x / 32] = two;
    }
    __syncthreads();
    one = shared[0][0] + shared[0][1] + shared[0][2] + shared[0][3];
    two = shared[1][0] + shared[1][1] + shared[1][2] + shared[1][3];
}

// A block of 128 threads per channel. On entry, `mean` and `squares` hold the partial sums of y and of
// its squares; on return, the first element of each row of `mean` is the mean.
KERNEL norm_forward(double *mean, const double *squares, int rows, double count, const T *weight,
                    const T *bias, double eps, double momentum, T *running_mean, T *running_var,
                    T *scale, T *shift, double *inverse) {
    const int c = blockIdx.x;
    double average = 0, variance = 0;
    UNROLLED_4 for (int r = threadIdx.x; r < rows; r += 128) {
        average += mean[(long)c * rows + r];
        variance += squares[(long)c * rows + r];
    }
    sum_of_block(average, variance);
    if (threadIdx.x > 0) return;
    average /= count;
    variance = variance / count - average * average;
    if (variance < 0) variance = 0;
    const double over_deviation = 1 / sqrt(variance + eps);
    mean[(long)c * rows] = average;
    inverse[c] = over_deviation;
    scale[c] = T(weight[c] * over_deviation);
    shift[c] = T(bias[c] - average * weight[c] * over_deviation);
    running_mean[c] = T((1 - momentum) * running_mean[c] + momentum * average);
    running_var[c] = T((1 - momentum) * running_var[c] + momentum * variance * count / (count - 1));
}

// The gradients of weight and bias, and the coefficients of the input's gradient, a g + b y + c0.
KERNEL norm_backward(const double *g_sums, const double *gx_sums, int rows, const double *mean,
                     int mean_rows, const double *inverse, double count, const T *weight,
                     T *g_weight, T *g_bias, T *a, T *b, T *c0) {
    const int c = blockIdx.x;
    double of_g = 0, of_gx = 0;
    UNROLLED_4 for (int r = threadIdx.x; r < rows; r += 128) {
        of_g += g_sums[(long)c * rows + r];
        of_gx += gx_sums[(long)c * rows + r];
    }
    sum_of_block(of_g, of_gx);
    if (threadIdx.x > 0) return;
    const double slope = weight[c] * inverse[c];
    const double curve = -slope * inverse[c] * inverse[c] * of_gx / count;
    g_weight[c] = T(of_gx * inverse[c]);
    g_bias[c] = T(of_g);
    a[c] = T(slope);
    b[c] = T(curve);
    c0[c] = T(-slope * of_g / count - curve * mean[(long)c * mean_rows]);
}

// A batch norm of y: wanted are the sums over pixels of its output's gradient g, which `weights` scale,
// and of the gradient times (y - mean).
struct Normed {
    const Stored *g, *y;
    const T *weights;
    const double *mean;
    double *g_sums, *gx_sums;
    int g_stride, y_stride, mean_rows;
};
// Of one shape; see cuda.py.
struct Norms {
    Normed of[8];
};

// Calls gradient(p, c) for all pixels and every fourth channel, and gathers the sums of `count` batch
// norms, MOST at most, for the four values that it returns. 256 threads and up to 64 channels a block.
template <int MOST, class Gradient>
__device__ inline void gather_sums(const Norms &norms, int first_norm, int count, int chunk, int num_pixels,
                                   int pixels, int C, const Gradient &gradient) {
    __shared__ double shared[8 * 256];
    const int first = chunk * 64, quads = min(16, (C - first) / 4), lanes = 256 / quads;
    const int lane = threadIdx.x / quads, q = threadIdx.x % quads, c = first + 4 * q;
    double of_g[MOST][4] = {}, of_gx[MOST][4] = {}, m[MOST][4] = {};
    if (lane < lanes) {
        UNROLLED for (int n = 0; n < MOST; n++) {
            const Normed &norm = norms.of[first_norm + n];
            if (n < count) EACH_OF_4(i) m[n][i] = norm.mean[(long)(c + i) * norm.mean_rows];
        }
        UNROLLED_4 for (int p = blockIdx.x * lanes + lane; p < num_pixels; p += gridDim.x * lanes) {
            const Quad some = gradient(p, c);
            UNROLLED for (int n = 0; n < MOST; n++) {
                if (n >= count) continue;
                const Normed &norm = norms.of[first_norm + n];
                const Quad value = read(norm.y + (long)p * norm.y_stride + c);
                const double weight = norm.weights ? __ldg(norm.weights + p / pixels) : T(1);
                EACH_OF_4(i) {
                    const double in = weight * some.v[i];
                    of_g[n][i] += in;
                    of_gx[n][i] += in * (value.v[i] - m[n][i]);
                }
            }
        }
    }
    UNROLLED for (int n = 0; n < MOST; n++) {
        if (n >= count) continue;
        const Normed &norm = norms.of[first_norm + n];
        __syncthreads();
        if (lane < lanes) EACH_OF_4(i) {
                shared[(lane * 8 + i) * quads + q] = of_g[n][i];
                shared[(lane * 8 + 4 + i) * quads + q] = of_gx[n][i];
            }
        add_rows(shared, lanes, 8 * quads);
        if (lane == 0) EACH_OF_4(i) {
                norm.g_sums[(long)(c + i) * gridDim.x + blockIdx.x] = shared[i * quads + q];
                norm.gx_sums[(long)(c + i) * gridDim.x + blockIdx.x] = shared[(4 + i) * quads + q];
            }
    }
}

// The sums of several batch norms, whose gradients are whole. blockIdx.y is norm and chunk of channels.
KERNEL norm_sums(const Norms norms, int num_pixels, int pixels, int C) {
    const int chunks = (C + 63) / 64, n = blockIdx.y / chunks;
    const Stored *g = norms.of[n].g;
    const int g_stride = norms.of[n].g_stride;
    gather_sums<1>(norms, n, 1, blockIdx.y % chunks, num_pixels, pixels, C,
                   [=](int p, int c) { return read(g + (long)p * g_stride + c); });
}

// ---- 1x1 convolutions --------------------------------------------------------------------------

constexpr int INNER = 16;

// Shared memory of multiply() and of the sums after it.
template <int M, int N> struct Room {
    static constexpr int products = INNER * (M + 4 + N + 4) * int(sizeof(T));
    static constexpr int statistics = 2 * (M / 4) * N * int(sizeof(double));
    static constexpr int bytes = products > statistics ? products : statistics;
};

// An M x N matrix product by M N / 16 threads, of which each computes 4 x 4 elements. The next operands
// are loaded into registers while the current ones are multiplied.
template <int M, int N, class Left, class Right>
__device__ inline void multiply(int inner, const Left &left, const Right &right, T *a, T (&sums)[4][4]) {
    constexpr int threads = M * N / 16, columns = N / 4, lefts = 64 / N, rights = 256 / M;
    T *b = a + INNER * (M + 4);
    const int i = threadIdx.x / columns * 4, j = threadIdx.x % columns * 4;
    EACH_OF_4(r) EACH_OF_4(c) sums[r][c] = 0;
    Quad next_left[lefts];
    T next_right[rights];
    const auto read_at = [&](int k0) {
        UNROLLED for (int n = 0; n < lefts; n++) {
            const int e = threadIdx.x + n * threads, k = k0 + e % (INNER / 4) * 4;
            next_left[n] = k < inner ? left(e / (INNER / 4), k) : Quad{};
        }
        UNROLLED for (int n = 0; n < rights; n++) {
            const int e = threadIdx.x + n * threads, k = k0 + e % INNER;
            next_right[n] = k < inner ? right(k, e / INNER) : T(0);
        }
    };
    read_at(0);
    for (int k0 = 0; k0 < inner; k0 += INNER) {
        __syncthreads();
        UNROLLED for (int n = 0; n < lefts; n++) {
            const int e = threadIdx.x + n * threads, m = e / (INNER / 4), k = e % (INNER / 4) * 4;
            EACH_OF_4(r) a[(k + r) * (M + 4) + m] = next_left[n].v[r];
        }
        UNROLLED for (int n = 0; n < rights; n++) {
            const int e = threadIdx.x + n * threads;
            b[e % INNER * (N + 4) + e / INNER] = next_right[n];
        }
        __syncthreads();
        if (k0 + INNER < inner) read_at(k0 + INNER);
        UNROLLED for (int k = 0; k < INNER; k++) {
            const Quad x = get(a + k * (M + 4) + i), y = get(b + k * (N + 4) + j);
            EACH_OF_4(r) EACH_OF_4(c) sums[r][c] += x.v[r] * y.v[c];
        }
    }
}

// The index, in maps of H x W pixels, of the p-th output pixel's input, or -1 if it is outside.
__device__ inline int location(int p, int H, int W, int step, int offset) {
    if (step == 1) return p;
    const int Ho = (H - 1) / step + 1, Wo = (W - 1) / step + 1;
    const int j = p % Wo * step + offset, i = p / Wo % Ho * step + offset;
    return i < H && j < W ? (p / (Wo * Ho) * H + i) * W + j : -1;
}

// The gradient of a batch norm's input, a g + b y + c0.
struct BeforeNorm {
    const Stored *g;
    const T *weights;
    const Stored *y;
    const T *a, *b, *c0;
    int g_stride, y_stride, pixels;
    __device__ inline Quad operator()(int p, int c) const {
        const Quad gradient = read(g + (long)p * g_stride + c), value = read(y + (long)p * y_stride + c);
        const Quad slope = read(a + c), curve = read(b + c), constant = read(c0 + c);
        const T weight = weights ? __ldg(weights + p / pixels) : T(1);
        Quad out;
        EACH_OF_4(i)
        out.v[i] = slope.v[i] * (weight * gradient.v[i]) + (curve.v[i] * value.v[i] + constant.v[i]);
        return out;
    }
};

// A 1x1 convolution of every step-th pixel, with a ReLU before it if `active`, and with the sums for
// the batch norm after it.
template <int M, int N>
__device__ void pointwise_forward(const Stored *x, int x_stride, int num_pixels, int H, int W, int C, int step,
                                  int offset, int active, const T *weight, int Co, Stored *y, int y_stride,
                                  double *sums, double *squares) {
    alignas(16) __shared__ char room[Room<M, N>::bytes];
    const int first = blockIdx.y * N;
    const int i = threadIdx.x / (N / 4) * 4, j = threadIdx.x % (N / 4) * 4, c = first + j;
    double one[4] = {}, two[4] = {};
    for (int p0 = blockIdx.x * M; p0 < num_pixels; p0 += gridDim.x * M) {
        T out[4][4];
        multiply<M, N>(
            C,
            [=](int m, int k) {
                const int at = p0 + m < num_pixels ? location(p0 + m, H, W, step, offset) : -1;
                Quad q = at < 0 ? Quad{} : read(x + (long)at * x_stride + k);
                if (active) EACH_OF_4(n) q.v[n] = relu(q.v[n]);
                return q;
            },
            [=](int k, int n) { return first + n < Co ? __ldg(weight + (first + n) * C + k) : T(0); }, (T *)room,
            out);
        if (c >= Co) continue;
        T some[4] = {}, some_squares[4] = {};
        EACH_OF_4(r) {
            if (p0 + i + r >= num_pixels) break;
            Quad q;
            EACH_OF_4(n) {
                q.v[n] = stored(out[r][n]);
                some[n] += q.v[n];
                some_squares[n] += q.v[n] * q.v[n];
            }
            put(y + (long)(p0 + i + r) * y_stride + c, q, 0);
        }
        EACH_OF_4(n) one[n] += some[n], two[n] += some_squares[n];
    }
    double *shared = (double *)room;
    __syncthreads();
    EACH_OF_4(n) {
        shared[i / 4 * 2 * N + j + n] = one[n];
        shared[i / 4 * 2 * N + N + j + n] = two[n];
    }
    add_rows(shared, M / 4, 2 * N);
    if (i == 0 && c < Co) EACH_OF_4(n) {
            sums[(long)(c + n) * gridDim.x + blockIdx.x] = shared[j + n];
            squares[(long)(c + n) * gridDim.x + blockIdx.x] = shared[N + j + n];
        }
}

// The gradient of pointwise_forward's input; `x` is given if there was a ReLU.
template <int M, int N>
__device__ void pointwise_input(BeforeNorm before, int num_pixels, int H, int W, int C, int step, int offset,
                                const Stored *x, int x_stride, const T *weight, int Co, Stored *x_gradient,
                                int x_gradient_stride, int add) {
    alignas(16) __shared__ char room[Room<M, N>::products];
    const int first = blockIdx.y * N;
    const int i = threadIdx.x / (N / 4) * 4, c = first + threadIdx.x % (N / 4) * 4;
    for (int p0 = blockIdx.x * M; p0 < num_pixels; p0 += gridDim.x * M) {
        T out[4][4];
        multiply<M, N>(
            Co, [=](int m, int k) { return p0 + m < num_pixels ? before(p0 + m, k) : Quad{}; },
            [=](int k, int n) { return first + n < C ? __ldg(weight + k * C + first + n) : T(0); }, (T *)room, out);
        if (c >= C) continue;
        EACH_OF_4(r) {
            const int at = p0 + i + r < num_pixels ? location(p0 + i + r, H, W, step, offset) : -1;
            if (at < 0) continue;
            Quad q;
            EACH_OF_4(n) q.v[n] = out[r][n];
            if (x) {
                const Quad in = read(x + (long)at * x_stride + c);
                EACH_OF_4(n) q.v[n] = in.v[n] <= 0 ? T(0) : q.v[n];
            }
            put(x_gradient + (long)at * x_gradient_stride + c, q, add);
        }
    }
}

// A block's partial sum of the weight gradient, for up to 64 x 64 weights. 256 threads.
BOUNDED(256, 3) pointwise_weight(const Stored *g, int g_stride, const T *weights, const Stored *y,
                                 int y_stride, const T *a, const T *b, const T *c0, const Stored *x,
                                 int x_stride, int num_pixels, int pixels, int H, int W, int C,
                                 int step, int offset, int active, int Co, T *shares) {
    constexpr int room = 32768 / sizeof(T);
    alignas(16) __shared__ T shared[room];
    const BeforeNorm before{g, weights, y, a, b, c0, g_stride, y_stride, pixels};
    const int chunks = (C + 63) / 64, o0 = blockIdx.y / chunks * 64, k0 = blockIdx.y % chunks * 64;
    const int os = min(64, Co - o0), ks = min(64, C - k0), tiles = os / 4 * (ks / 4);
    const int groups = 256 / tiles, group = threadIdx.x / tiles, tile = threadIdx.x % tiles;
    const int i = tile / (ks / 4) * 4, j = tile % (ks / 4) * 4;
    const int batch = min(256, room / (os + ks));
    T *left = shared, *right = shared + batch * os, sums[4][4] = {};
    for (int p0 = blockIdx.x * batch; p0 < num_pixels; p0 += gridDim.x * batch) {
        const int size = min(batch, num_pixels - p0);
        __syncthreads();
        UNROLLED_4 for (int e = threadIdx.x; e < size * (os / 4); e += 256) {
            const int p = e / (os / 4), c = e % (os / 4) * 4;
            put(left + p * os + c, before(p0 + p, o0 + c), 0);
        }
        UNROLLED_4 for (int e = threadIdx.x; e < size * (ks / 4); e += 256) {
            const int p = e / (ks / 4), c = e % (ks / 4) * 4, at = location(p0 + p, H, W, step, offset);
            Quad q = at < 0 ? Quad{} : read(x + (long)at * x_stride + k0 + c);
            if (active) EACH_OF_4(n) q.v[n] = relu(q.v[n]);
            put(right + p * ks + c, q, 0);
        }
        __syncthreads();
        if (group >= groups) continue;
        UNROLLED_4 for (int p = group; p < size; p += groups) {
            const Quad r = get(left + p * os + i), c = get(right + p * ks + j);
            EACH_OF_4(m) EACH_OF_4(n) sums[m][n] += r.v[m] * c.v[n];
        }
    }
    __syncthreads();
    EACH_OF_4(m) EACH_OF_4(n) shared[(m * 4 + n) * 256 + threadIdx.x] = sums[m][n];
    __syncthreads();
    for (int e = threadIdx.x; e < tiles * 16; e += 256) {
        const int of = e % tiles, slot = e / tiles;
        T sum = 0;
        UNROLLED_4 for (int n = 0; n < groups; n++) sum += shared[slot * 256 + n * tiles + of];
        const int o = o0 + of / (ks / 4) * 4 + slot / 4, k = k0 + of % (ks / 4) * 4 + slot % 4;
        shares[((long)blockIdx.x * Co + o) * C + k] = sum;
    }
}

#define POINTWISE(M, N)                                                                             \
    BOUNDED(M * N / 16, 768 * 16 / (M * N)) pointwise_forward_##N(                                  \
        const Stored *x, int x_stride, int num_pixels, int H, int W, int C, int step, int offset,        \
        int active, const T *weight, int Co, Stored *y, int y_stride, double *mean, double *squares) {   \
        pointwise_forward<M, N>(x, x_stride, num_pixels, H, W, C, step, offset, active, weight, Co, \
                                y, y_stride, mean, squares);                                        \
    }                                                                                               \
    BOUNDED(M * N / 16, 768 * 16 / (M * N)) pointwise_input_##N(                                    \
        const Stored *g, int g_stride, const T *weights, const Stored *y, int y_stride, const T *a,           \
        const T *b, const T *c0, int num_pixels, int pixels, int H, int W, int C, int step,         \
        int offset, const Stored *x, int x_stride, const T *weight, int Co, Stored *x_gradient,               \
        int x_gradient_stride, int add) {                                                           \
        pointwise_input<M, N>(BeforeNorm{g, weights, y, a, b, c0, g_stride, y_stride, pixels},      \
                              num_pixels, H, W, C, step, offset, x, x_stride, weight, Co,           \
                              x_gradient, x_gradient_stride, add);                                  \
    }

POINTWISE(256, 16)
POINTWISE(64, 32)
POINTWISE(32, 64)

// The partial sums of a parameter's gradient, `rows` x `size` elements, and where their sum goes.
struct Share {
    const T *from;
    T *to;
    int rows, size;
};
// As many as fit into the arguments of a kernel; see cuda.py.
struct Shares {
    Share of[128];
};

// Adds the partial sums of several parameters; blockIdx.y is the parameter. A block adds 32 elements,
// with 8 threads for each.
KERNEL add_shares(const Shares shares) {
    __shared__ T shared[256];
    const T *from = shares.of[blockIdx.y].from;
    const int rows = shares.of[blockIdx.y].rows, size = shares.of[blockIdx.y].size;
    if (blockIdx.x * 32 >= size) return;
    const int e = blockIdx.x * 32 + threadIdx.x % 32;
    T sum = 0;
    if (e < size) {
        UNROLLED_8 for (int r = threadIdx.x / 32; r < rows; r += 8) sum += __ldg(from + (long)r * size + e);
    }
    shared[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x >= 32 || e >= size) return;
    for (int n = 1; n < 8; n++) sum += shared[n * 32 + threadIdx.x];
    shares.of[blockIdx.y].to[e] = sum;
}

// ---- depthwise convolutions --------------------------------------------------------------------
// 256 threads; a block has up to 64 channels, a thread four pixels of a row at a time.

// Loads the weights of 64 channels of a depthwise convolution as taps x channels.
template <int TAPS> __device__ inline void load_kernel(const T *weight, int first, int C, T *kernel) {
    for (int e = threadIdx.x; e < TAPS * 64; e += 256) {
        const int c = e % 64;
        kernel[e] = first + c < C ? __ldg(weight + (first + c) * TAPS + e / 64) : T(0);
    }
    __syncthreads();
}

template <int K, int D, int S>
__device__ void depthwise_forward(const Stored *x, int x_stride, const T *scale, const T *shift, int images, int H,
                                  int W, int C, const T *weight, Stored *y) {
    constexpr int pad = D * (K / 2), span = 3 * S + (K - 1) * D + 1;
    alignas(16) __shared__ T kernel[K * K * 64];
    const int first = blockIdx.y * 64, pairs = min(32, (C - first) / 2), lanes = 256 / pairs;
    load_kernel<K * K>(weight, first, C, kernel);
    const int Ho = (H - 1) / S + 1, Wo = (W - 1) / S + 1, strips = (Wo + 3) / 4;
    const int lane = threadIdx.x / pairs, q = threadIdx.x % pairs * 2, c = first + q;
    const int item = blockIdx.x * lanes + lane;
    if (lane >= lanes || item >= images * Ho * strips) return;
    const int j0 = item % strips * 4, i = item / strips % Ho, n = item / strips / Ho;
    Pair a{}, b{}, out[4] = {};
    if (scale) a = read_pair(scale + c), b = read_pair(shift + c);
    UNROLLED for (int u = 0; u < K; u++) {
        const int row = i * S - pad + u * D;
        const bool inside = row >= 0 && row < H;
        const Stored *from = x + (long)(n * H + row) * W * x_stride + c;
        Pair in[span];
        UNROLLED for (int m = 0; m < span; m++) {
            const int column = j0 * S - pad + m;
            in[m] = Pair{};
            if (!inside || column < 0 || column >= W) continue;
            in[m] = read_pair(from + (long)column * x_stride);
            if (scale) UNROLLED for (int k = 0; k < 2; k++) in[m].v[k] = in[m].v[k] * a.v[k] + b.v[k];
            UNROLLED for (int k = 0; k < 2; k++) in[m].v[k] = relu(in[m].v[k]);
        }
        UNROLLED for (int v = 0; v < K; v++) {
            const Pair w = *(const Pair *)(kernel + (u * K + v) * 64 + q);
            EACH_OF_4(r) UNROLLED for (int k = 0; k < 2; k++) out[r].v[k] += in[r * S + v * D].v[k] * w.v[k];
        }
    }
    EACH_OF_4(r) {
        if (j0 + r >= Wo) break;
        put_pair(y + ((long)(n * Ho + i) * Wo + j0 + r) * C + c, out[r]);
    }
}

// The gradient of a depthwise convolution's input, before the ReLU and the affine map, and a block's
// partial sum of the weight gradient. If the gradient is that of a batch norm's output, and `normed` is
// that batch norm's input, also the sums of norm_sums.
template <int K, int D, int S>
__device__ void depthwise_backward(const Stored *g, const Stored *x, int x_stride, const T *scale, const T *shift,
                                   const Stored *normed, int normed_stride, const T *normed_weights,
                                   const double *x_mean, int mean_rows, int images, int H, int W, int C,
                                   const T *weight, Stored *x_gradient, int x_gradient_stride, int add, T *shares,
                                   double *g_sums, double *gx_sums, int rows) {
    constexpr int pad = D * (K / 2), before = pad / S, span = (3 + pad) / S + before + 1;
    constexpr bool ahead = K == 3;  // with five rows, registers do not suffice to read one ahead
    alignas(16) __shared__ T kernel[K * K * 64];
    alignas(16) __shared__ char room[(K * sizeof(Pair) > 32 ? K * sizeof(Pair) : 32) * 256];
    const int first = blockIdx.y * 64, pairs = min(32, (C - first) / 2), lanes = 256 / pairs;
    load_kernel<K * K>(weight, first, C, kernel);
    const int Ho = (H - 1) / S + 1, Wo = (W - 1) / S + 1, strips = (W + 3) / 4;
    const int lane = threadIdx.x / pairs, q = threadIdx.x % pairs * 2, c = first + q;
    Pair a{}, b{}, of_kernel[K][K] = {};
    double of_g[2] = {}, of_gx[2] = {};
    if (scale) a = read_pair(scale + c), b = read_pair(shift + c);
    for (int item = blockIdx.x * lanes + lane; lane < lanes && item < images * H * strips;
         item += gridDim.x * lanes) {
        const int j0 = item % strips * 4, i = item / strips % H, n = item / strips / H;
        const long at = (long)(n * H + i) * W + j0;
        Pair next[span], active[4] = {}, out[4] = {};
        const auto read_row = [&](int u) {
            const int row = i + pad - u * D;
            const bool inside = row >= 0 && row % S == 0 && row / S < Ho;
            const Stored *from = g + (long)(n * Ho + row / S) * Wo * C + c;
            UNROLLED for (int m = 0; m < span; m++) {
                const int column = j0 / S - before + m;
                const bool here = inside && column >= 0 && column < Wo;
                next[m] = here ? read_pair(from + (long)column * C) : Pair{};
            }
        };
        if (ahead) read_row(0);
        EACH_OF_4(r) {
            if (j0 + r >= W) break;
            active[r] = read_pair(x + (at + r) * x_stride + c);
            UNROLLED for (int k = 0; k < 2; k++)
                active[r].v[k] = relu(scale ? active[r].v[k] * a.v[k] + b.v[k] : active[r].v[k]);
        }
        UNROLLED for (int u = 0; u < K; u++) {
            if (!ahead) read_row(u);
            Pair gradient[span];
            UNROLLED for (int m = 0; m < span; m++) gradient[m] = next[m];
            if (ahead && u + 1 < K) read_row(u + 1);
            UNROLLED for (int v = 0; v < K; v++) {
                const Pair w = *(const Pair *)(kernel + (u * K + v) * 64 + q);
                EACH_OF_4(r) {
                    if ((r + pad - v * D) % S != 0) continue;
                    const Pair &from_here = gradient[(r + pad - v * D + before * S) / S];
                    UNROLLED for (int k = 0; k < 2; k++) {
                        out[r].v[k] += from_here.v[k] * w.v[k];
                        of_kernel[u][v].v[k] += from_here.v[k] * active[r].v[k];
                    }
                }
            }
        }
        const T mean[2] = {normed ? T(x_mean[(long)c * mean_rows]) : T(0),
                           normed ? T(x_mean[(long)(c + 1) * mean_rows]) : T(0)};
        const T image_weight = normed_weights ? __ldg(normed_weights + n) : T(1);
        T some_g[2] = {}, some_gx[2] = {};
        EACH_OF_4(r) {
            if (j0 + r >= W) break;
            const Pair in = normed ? read_pair(normed + (at + r) * normed_stride + c) : Pair{};
            Stored *to = x_gradient + (at + r) * x_gradient_stride + c;
            const Pair there = add ? get_pair(to) : Pair{};
            UNROLLED for (int k = 0; k < 2; k++) {
                if (active[r].v[k] <= 0) out[r].v[k] = 0;
                if (add) out[r].v[k] += there.v[k];
                const T weighted = image_weight * stored(out[r].v[k]);
                some_g[k] += weighted;
                some_gx[k] += weighted * (in.v[k] - mean[k]);
            }
            put_pair(to, out[r]);
        }
        UNROLLED for (int k = 0; k < 2; k++) of_g[k] += some_g[k], of_gx[k] += some_gx[k];
    }
    T *shared = (T *)room;
    UNROLLED for (int u = 0; u < K; u++) {
        if (lane < lanes) UNROLLED for (int v = 0; v < K; v++) {
                shared[((lane * K + v) * 2 + 0) * pairs + q / 2] = of_kernel[u][v].v[0];
                shared[((lane * K + v) * 2 + 1) * pairs + q / 2] = of_kernel[u][v].v[1];
            }
        add_rows(shared, lanes, 2 * K * pairs);
        for (int e = threadIdx.x; e < 2 * K * pairs; e += 256) {
            const int pair = e % pairs, k = e / pairs % 2, v = e / pairs / 2;
            shares[((long)blockIdx.x * C + first + 2 * pair + k) * K * K + u * K + v] = shared[e];
        }
        __syncthreads();
    }
    if (!normed) return;
    double *sums = (double *)room;
    if (lane < lanes) UNROLLED for (int k = 0; k < 2; k++) {
            sums[(lane * 4 + k) * pairs + q / 2] = of_g[k];
            sums[(lane * 4 + 2 + k) * pairs + q / 2] = of_gx[k];
        }
    add_rows(sums, lanes, 4 * pairs);
    if (lane > 0) return;
    UNROLLED for (int k = 0; k < 2; k++) {
        double *g_to = g_sums + (long)(c + k) * rows, *gx_to = gx_sums + (long)(c + k) * rows;
        g_to[blockIdx.x] = sums[k * pairs + q / 2];
        gx_to[blockIdx.x] = sums[(2 + k) * pairs + q / 2];
        for (int r = blockIdx.x + gridDim.x; r < rows; r += gridDim.x) g_to[r] = gx_to[r] = 0;
    }
}

#define DEPTHWISE(K, D, S)                                                                          \
    BOUNDED(256, 4) depthwise_forward_##K##D##S(                                                    \
        const Stored *x, int x_stride, const T *scale, const T *shift, int N, int H, int W, int C,       \
        const T *depthwise, Stored *between) {                                                           \
        depthwise_forward<K, D, S>(x, x_stride, scale, shift, N, H, W, C, depthwise, between);      \
    }                                                                                               \
    BOUNDED(256, 2) depthwise_backward_##K##D##S(                                                   \
        const Stored *g_between, const Stored *x, int x_stride, const T *scale, const T *shift,               \
        const Stored *normed, int normed_stride, const T *normed_weights,                                \
        const double *x_mean, int mean_rows, int N, int H, int W, int C, const T *depthwise,        \
        Stored *x_gradient, int x_gradient_stride, int add, T *shares, double *g_sums, double *gx_sums,  \
        int rows) {                                                                                 \
        depthwise_backward<K, D, S>(g_between, x, x_stride, scale, shift, normed, normed_stride,    \
                                    normed_weights, x_mean, mean_rows, N, H, W, C, depthwise,       \
                                    x_gradient, x_gradient_stride, add, shares, g_sums, gx_sums,    \
                                    rows);                                                          \
    }

DEPTHWISE(3, 1, 1)
DEPTHWISE(3, 1, 2)
DEPTHWISE(5, 1, 1)
DEPTHWISE(5, 1, 2)
DEPTHWISE(3, 2, 1)
DEPTHWISE(3, 2, 2)
DEPTHWISE(5, 2, 1)
DEPTHWISE(5, 2, 2)

// ---- sums of maps, and pooling: four channels of a pixel at a time -----------------------------
// A pass that writes the whole of a gradient can gather the sums of `num_norms` batch norms, up to two.

// The sum of two maps, each after an affine map per channel and a weight per image, if given.
KERNEL join(const Stored *one, int one_stride, const T *one_scale, const T *one_shift,
            const T *one_weights, const Stored *two, int two_stride, const T *two_scale,
            const T *two_shift, const T *two_weights, int num_pixels, int pixels, int C, Stored *out,
            int out_stride) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x, p = e / (C / 4), c = e % (C / 4) * 4;
    if (p >= num_pixels) return;
    const T w1 = one_weights ? one_weights[p / pixels] : T(1);
    const T w2 = two_weights ? two_weights[p / pixels] : T(1);
    Quad a = read(one + (long)p * one_stride + c), b = read(two + (long)p * two_stride + c);
    if (one_scale) {
        const Quad scale = read(one_scale + c), shift = read(one_shift + c);
        EACH_OF_4(i) a.v[i] = a.v[i] * scale.v[i] + shift.v[i];
    }
    if (two_scale) {
        const Quad scale = read(two_scale + c), shift = read(two_shift + c);
        EACH_OF_4(i) b.v[i] = b.v[i] * scale.v[i] + shift.v[i];
    }
    EACH_OF_4(i) a.v[i] = a.v[i] * w1 + b.v[i] * w2;
    put(out + (long)p * out_stride + c, a, 0);
}

// Writes or adds a map, after an affine map per channel and a weight per image, if given.
KERNEL copy(const Stored *x, int x_stride, const T *scale, const T *shift, const T *weights,
            int num_pixels, int pixels, int C, Stored *out, int out_stride, int add, const Norms norms,
            int num_norms) {
    gather_sums<2>(norms, 0, num_norms, blockIdx.y, num_pixels, pixels, C, [=](int p, int c) {
        const T weight = weights ? weights[p / pixels] : T(1);
        Quad q = read(x + (long)p * x_stride + c);
        if (scale) {
            const Quad a = read(scale + c), b = read(shift + c);
            EACH_OF_4(i) q.v[i] = q.v[i] * a.v[i] + b.v[i];
        }
        EACH_OF_4(i) q.v[i] *= weight;
        return put(out + (long)p * out_stride + c, q, add);
    });
}

// The weight of each pixel in a 3x3 average, which does not count pixels outside the image.
__device__ inline T share(int i, int j, int s, int H, int W) {
    const int rows = min(i * s + 2, H) - max(i * s - 1, 0);
    return T(1) / T(rows * (min(j * s + 2, W) - max(j * s - 1, 0)));
}

// 3x3 pooling with padding 1. A maximum (`which` is given) stores which of the nine pixels it was.
KERNEL pool_forward(const Stored *x, int x_stride, int N, int H, int W, int C, int s, Stored *y,
                    Byte *which) {
    const int Ho = (H - 1) / s + 1, Wo = (W - 1) / s + 1;
    const int e = blockIdx.x * blockDim.x + threadIdx.x, p = e / (C / 4), c = e % (C / 4) * 4;
    if (p >= N * Ho * Wo) return;
    const int j = p % Wo, i = p / Wo % Ho, n = p / (Wo * Ho);
    Quad sum{}, best{};
    Byte index[4] = {};
    bool any = false;
    UNROLLED for (int u = 0; u < 3; u++) UNROLLED for (int v = 0; v < 3; v++) {
        const int row = i * s - 1 + u, column = j * s - 1 + v;
        if (row < 0 || row >= H || column < 0 || column >= W) continue;
        const Quad q = read(x + (long)((n * H + row) * W + column) * x_stride + c);
        EACH_OF_4(k) {
            sum.v[k] += q.v[k];
            if (!any || q.v[k] > best.v[k] || q.v[k] != q.v[k]) {
                best.v[k] = q.v[k];
                index[k] = u * 3 + v;
            }
        }
        any = true;
    }
    if (which) {
        *(uchar4 *)(which + (long)p * C + c) = uchar4{index[0], index[1], index[2], index[3]};
        put(y + (long)p * C + c, best, 0);
        return;
    }
    EACH_OF_4(k) sum.v[k] *= share(i, j, s, H, W);
    put(y + (long)p * C + c, sum, 0);
}

KERNEL pool_backward(const Stored *g, int g_stride, const T *weights, const Byte *which, int N, int H,
                     int W, int C, int s, Stored *x_gradient, int x_gradient_stride, int add,
                     const Norms norms, int num_norms) {
    const int Ho = (H - 1) / s + 1, Wo = (W - 1) / s + 1;
    gather_sums<2>(norms, 0, num_norms, blockIdx.y, N * H * W, H * W, C, [=](int p, int c) {
        const int column = p % W, row = p / W % H, n = p / (W * H);
        const T weight = weights ? weights[n] : T(1);
        Quad sum{};
        UNROLLED for (int u = 0; u < 3; u++) UNROLLED for (int v = 0; v < 3; v++) {
            const int down = row + 1 - u, right = column + 1 - v;
            if (down < 0 || right < 0 || (down & (s - 1)) || (right & (s - 1))) continue;
            const int i = down >> (s - 1), j = right >> (s - 1);  // s is 1 or 2
            if (i >= Ho || j >= Wo) continue;
            const long at = (long)(n * Ho + i) * Wo + j;
            const Quad q = read(g + at * g_stride + c);
            const T part = which ? weight : weight * share(i, j, s, H, W);
            const uchar4 from = which ? __ldg((const uchar4 *)(which + at * C + c)) : uchar4{};
            const Byte index[4] = {from.x, from.y, from.z, from.w};
            EACH_OF_4(k) if (!which || index[k] == u * 3 + v) sum.v[k] += q.v[k] * part;
        }
        return put(x_gradient + (long)p * x_gradient_stride + c, sum, add);
    });
}
