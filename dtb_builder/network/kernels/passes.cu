// The passes over maps for a GPU, compiled when they are first used, for one type: ELEMENT is float or double.
//
// A map is N x H x W pixels of C channels, channels last; a pixel begins `stride` elements after the
// one before, so that a map may be some channels of a wider one. Channels, strides and addresses are
// multiples of four elements: a thread works on a quad or a pair of channels. Sums over pixels go
// through one partial sum per block, added in a fixed order: the same bits each time, no atomics.

typedef ELEMENT T;
typedef unsigned char Byte;
struct alignas(16) Quad {
    T v[4];
};
struct alignas(2 * sizeof(T)) Pair {
    T v[2];
};

#define UNROLLED _Pragma("unroll")
#define EACH_OF_4(i) UNROLLED for (int i = 0; i < 4; i++)

__device__ inline T relu(T x) { return x < 0 ? T(0) : x; }
__device__ inline Quad get(const T *p) { return *(const Quad *)p; }
__device__ inline void put(T *p, Quad q, int add) {
    if (add) {
        const Quad there = get(p);
        EACH_OF_4(i) q.v[i] += there.v[i];
    }
    *(Quad *)p = q;
}

// ---- batch norms -------------------------------------------------------------------------------
// Sums per channel are C x rows doubles, a row from each block; their results stand in the first row.

// The sums of two values over a block's 128 threads, for the first of them.
__device__ void sum_of_block(double &one, double &two) {
    __shared__ double shared[2][128];
    shared[0][threadIdx.x] = one;
    shared[1][threadIdx.x] = two;
    for (int half = 64; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            shared[0][threadIdx.x] += shared[0][threadIdx.x + half];
            shared[1][threadIdx.x] += shared[1][threadIdx.x + half];
        }
    }
    one = shared[0][0];
    two = shared[1][0];
}

// A block of 128 threads per channel: sums of y and of its squares become the mean and what is needed.
extern "C" __global__ void norm_forward(double *sums, const double *squares, int rows, double count,
                                        const T *weight, const T *bias, double eps, double momentum,
                                        T *running_mean, T *running_var, T *scale, T *shift,
                                        double *inverse) {
    const int c = blockIdx.x;
    double mean = 0, variance = 0;
    for (int r = threadIdx.x; r < rows; r += 128) {
        mean += sums[(long)c * rows + r];
        variance += squares[(long)c * rows + r];
    }
    sum_of_block(mean, variance);
    if (threadIdx.x > 0) return;
    mean /= count;
    variance = variance / count - mean * mean;
    if (variance < 0) variance = 0;
    const double over_deviation = 1 / sqrt(variance + eps);
    sums[(long)c * rows] = mean;
    inverse[c] = over_deviation;
    scale[c] = T(weight[c] * over_deviation);
    shift[c] = T(bias[c] - mean * weight[c] * over_deviation);
    running_mean[c] = T((1 - momentum) * running_mean[c] + momentum * mean);
    running_var[c] = T((1 - momentum) * running_var[c] + momentum * variance * count / (count - 1));
}

// The gradients of weight and bias, and a, b, c0: before the norm the gradient is a g + b y + c0.
extern "C" __global__ void norm_backward(const double *g_sums, const double *gx_sums, int rows,
                                         const double *mean, int mean_rows, const double *inverse,
                                         double count, const T *weight, T *g_weight, T *g_bias, T *a,
                                         T *b, T *c0) {
    const int c = blockIdx.x;
    double of_g = 0, of_gx = 0;
    for (int r = threadIdx.x; r < rows; r += 128) {
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

// Sums over pixels of a gradient, and of it times (y - mean): 256 threads, up to 64 channels a block.
extern "C" __global__ void norm_sums(const T *g, int g_stride, const T *weights, const T *y, int y_stride,
                                     const double *mean, int mean_rows, int num_pixels, int pixels,
                                     int C, double *g_sums, double *gx_sums) {
    __shared__ double shared[2][4][256];
    const int first = blockIdx.y * 64, quads = min(16, (C - first) / 4);
    int lanes = 256;
    while (lanes * quads > 256) lanes /= 2;
    const int lane = threadIdx.x / quads, q = threadIdx.x % quads, c = first + 4 * q;
    double of_g[4] = {}, of_gx[4] = {}, m[4] = {};
    if (lane < lanes) {
        EACH_OF_4(i) m[i] = mean[(long)(c + i) * mean_rows];
        for (int p = blockIdx.x * lanes + lane; p < num_pixels; p += gridDim.x * lanes) {
            const Quad gradient = get(g + (long)p * g_stride + c), value = get(y + (long)p * y_stride + c);
            const double weight = weights ? weights[p / pixels] : T(1);
            EACH_OF_4(i) {
                const double in = weight * gradient.v[i];
                of_g[i] += in;
                of_gx[i] += in * (value.v[i] - m[i]);
            }
        }
    }
    EACH_OF_4(i) {
        shared[0][i][threadIdx.x] = of_g[i];
        shared[1][i][threadIdx.x] = of_gx[i];
    }
    for (int half = lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half) EACH_OF_4(i) {
                shared[0][i][threadIdx.x] += shared[0][i][threadIdx.x + half * quads];
                shared[1][i][threadIdx.x] += shared[1][i][threadIdx.x + half * quads];
            }
    }
    if (lane == 0) EACH_OF_4(i) {
            g_sums[(long)(c + i) * gridDim.x + blockIdx.x] = shared[0][i][q];
            gx_sums[(long)(c + i) * gridDim.x + blockIdx.x] = shared[1][i][q];
        }
}

// ---- 1x1 convolutions --------------------------------------------------------------------------

constexpr int INNER = 16;

// Room for what multiply and the sums after it share.
template <int M, int N> struct Room {
    static constexpr int products = INNER * (M + 4 + N + 4) * int(sizeof(T));
    static constexpr int statistics = 2 * (M / 4) * N * int(sizeof(double));
    static constexpr int bytes = products > statistics ? products : statistics;
};

// Four rows and four columns of an M x N product, for each of M N / 16 threads.
template <int M, int N, class Left, class Right>
__device__ inline void multiply(int inner, const Left &left, const Right &right, T *a, T (&sums)[4][4]) {
    constexpr int threads = M * N / 16, columns = N / 4;
    T *b = a + INNER * (M + 4);
    const int i = threadIdx.x / columns * 4, j = threadIdx.x % columns * 4;
    EACH_OF_4(r) EACH_OF_4(c) sums[r][c] = 0;
    for (int k0 = 0; k0 < inner; k0 += INNER) {
        __syncthreads();
        UNROLLED for (int e = threadIdx.x; e < M * (INNER / 4); e += threads) {
            const int m = e / (INNER / 4), k = e % (INNER / 4) * 4;
            const Quad q = k0 + k < inner ? left(m, k0 + k) : Quad{};
            EACH_OF_4(n) a[(k + n) * (M + 4) + m] = q.v[n];
        }
        for (int e = threadIdx.x; e < N * INNER; e += threads) {
            const int n = e / INNER, k = e % INNER;
            b[k * (N + 4) + n] = k0 + k < inner ? right(k0 + k, n) : T(0);
        }
        __syncthreads();
        UNROLLED for (int k = 0; k < INNER; k++) {
            const Quad x = get(a + k * (M + 4) + i), y = get(b + k * (N + 4) + j);
            EACH_OF_4(r) EACH_OF_4(c) sums[r][c] += x.v[r] * y.v[c];
        }
    }
}

// Where in a map of H x W pixels the pixel p of every step-th one lies, or -1 if it is outside.
__device__ inline int location(int p, int H, int W, int step, int offset) {
    if (step == 1) return p;
    const int Ho = (H - 1) / step + 1, Wo = (W - 1) / step + 1;
    const int j = p % Wo * step + offset, i = p / Wo % Ho * step + offset;
    return i < H && j < W ? (p / (Wo * Ho) * H + i) * W + j : -1;
}

// A gradient before a batch norm.
struct BeforeNorm {
    const T *g, *weights, *y, *a, *b, *c0;
    int g_stride, y_stride, pixels;
    __device__ inline Quad operator()(int p, int c) const {
        const Quad gradient = get(g + (long)p * g_stride + c), value = get(y + (long)p * y_stride + c);
        const Quad slope = get(a + c), curve = get(b + c), constant = get(c0 + c);
        const T weight = weights ? weights[p / pixels] : T(1);
        Quad out;
        EACH_OF_4(i)
        out.v[i] = slope.v[i] * (weight * gradient.v[i]) + (curve.v[i] * value.v[i] + constant.v[i]);
        return out;
    }
};

// Every step-th pixel times a matrix, after a ReLU if asked; with the sums of a batch norm.
template <int M, int N>
__device__ void pointwise_forward(const T *x, int x_stride, int num_pixels, int H, int W, int C, int step,
                                  int offset, int active, const T *weight, int Co, T *y, int y_stride,
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
                Quad q = at < 0 ? Quad{} : get(x + (long)at * x_stride + k);
                if (active) EACH_OF_4(n) q.v[n] = relu(q.v[n]);
                return q;
            },
            [=](int k, int n) { return first + n < Co ? weight[(first + n) * C + k] : T(0); }, (T *)room,
            out);
        if (c >= Co) continue;
        EACH_OF_4(r) {
            if (p0 + i + r >= num_pixels) break;
            Quad q;
            EACH_OF_4(n) {
                q.v[n] = out[r][n];
                one[n] += out[r][n];
                two[n] += double(out[r][n]) * out[r][n];
            }
            put(y + (long)(p0 + i + r) * y_stride + c, q, 0);
        }
    }
    double *shared = (double *)room;
    constexpr int lanes = M / 4;
    __syncthreads();
    EACH_OF_4(n) {
        shared[i / 4 * N + j + n] = one[n];
        shared[(lanes + i / 4) * N + j + n] = two[n];
    }
    for (int half = lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (i / 4 < half) EACH_OF_4(n) {
                shared[i / 4 * N + j + n] += shared[(i / 4 + half) * N + j + n];
                shared[(lanes + i / 4) * N + j + n] += shared[(lanes + i / 4 + half) * N + j + n];
            }
    }
    if (i == 0 && c < Co) EACH_OF_4(n) {
            sums[(long)(c + n) * gridDim.x + blockIdx.x] = shared[j + n];
            squares[(long)(c + n) * gridDim.x + blockIdx.x] = shared[lanes * N + j + n];
        }
}

// The gradient of what pointwise_forward read; `x` is given where there was a ReLU.
template <int M, int N>
__device__ void pointwise_input(BeforeNorm before, int num_pixels, int H, int W, int C, int step, int offset,
                                const T *x, int x_stride, const T *weight, int Co, T *x_gradient,
                                int xg_stride, int add) {
    alignas(16) __shared__ char room[Room<M, N>::products];
    const int first = blockIdx.y * N;
    const int i = threadIdx.x / (N / 4) * 4, c = first + threadIdx.x % (N / 4) * 4;
    for (int p0 = blockIdx.x * M; p0 < num_pixels; p0 += gridDim.x * M) {
        T out[4][4];
        multiply<M, N>(
            Co, [=](int m, int k) { return p0 + m < num_pixels ? before(p0 + m, k) : Quad{}; },
            [=](int k, int n) { return first + n < C ? weight[k * C + first + n] : T(0); }, (T *)room, out);
        if (c >= C) continue;
        EACH_OF_4(r) {
            const int at = p0 + i + r < num_pixels ? location(p0 + i + r, H, W, step, offset) : -1;
            if (at < 0) continue;
            Quad q;
            EACH_OF_4(n) q.v[n] = out[r][n];
            if (x) {
                const Quad in = get(x + (long)at * x_stride + c);
                EACH_OF_4(n) q.v[n] = in.v[n] <= 0 ? T(0) : q.v[n];
            }
            put(x_gradient + (long)at * xg_stride + c, q, add);
        }
    }
}

// A block's share of the gradient of the matrix, of up to 64 x 64 of it: 256 threads.
extern "C" __global__ void pointwise_weight(const T *g, int g_stride, const T *weights, const T *y,
                                            int y_stride, const T *a, const T *b, const T *c0, const T *x,
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
        for (int e = threadIdx.x; e < size * (os / 4); e += 256) {
            const int p = e / (os / 4), c = e % (os / 4) * 4;
            put(left + p * os + c, before(p0 + p, o0 + c), 0);
        }
        for (int e = threadIdx.x; e < size * (ks / 4); e += 256) {
            const int p = e / (ks / 4), c = e % (ks / 4) * 4, at = location(p0 + p, H, W, step, offset);
            Quad q = at < 0 ? Quad{} : get(x + (long)at * x_stride + k0 + c);
            if (active) EACH_OF_4(n) q.v[n] = relu(q.v[n]);
            put(right + p * ks + c, q, 0);
        }
        __syncthreads();
        if (group >= groups) continue;
        for (int p = group; p < size; p += groups) {
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
        for (int n = 0; n < groups; n++) sum += shared[slot * 256 + n * tiles + of];
        const int o = o0 + of / (ks / 4) * 4 + slot / 4, k = k0 + of % (ks / 4) * 4 + slot % 4;
        shares[((long)blockIdx.x * Co + o) * C + k] = sum;
    }
}

#define POINTWISE(M, N)                                                                               \
    extern "C" __global__ void pointwise_forward_##N(                                                 \
        const T *x, int x_stride, int num_pixels, int H, int W, int C, int step, int offset,          \
        int active, const T *weight, int Co, T *y, int y_stride, double *sums, double *squares) {     \
        pointwise_forward<M, N>(x, x_stride, num_pixels, H, W, C, step, offset, active, weight, Co,   \
                                y, y_stride, sums, squares);                                          \
    }                                                                                                 \
    extern "C" __global__ void pointwise_input_##N(                                                   \
        const T *g, int g_stride, const T *weights, const T *y, int y_stride, const T *a, const T *b, \
        const T *c0, int num_pixels, int pixels, int H, int W, int C, int step, int offset,           \
        const T *x, int x_stride, const T *weight, int Co, T *x_gradient, int xg_stride, int add) {   \
        pointwise_input<M, N>(BeforeNorm{g, weights, y, a, b, c0, g_stride, y_stride, pixels},        \
                              num_pixels, H, W, C, step, offset, x, x_stride, weight, Co, x_gradient, \
                              xg_stride, add);                                                        \
    }

POINTWISE(256, 16)
POINTWISE(64, 32)
POINTWISE(32, 64)

// The shares of all blocks of two parameters, added: 32 elements a block, 8 threads each.
extern "C" __global__ void add_shares(const T *one, int one_rows, int one_size, T *one_out, const T *two,
                                      int two_rows, int two_size, T *two_out) {
    __shared__ T shared[256];
    const int of_one = (one_size + 31) / 32;
    const bool is_one = blockIdx.x < of_one;
    const T *in = is_one ? one : two;
    const int rows = is_one ? one_rows : two_rows, size = is_one ? one_size : two_size;
    const int e = (blockIdx.x - (is_one ? 0 : of_one)) * 32 + threadIdx.x % 32;
    T sum = 0;
    if (e < size) {
        _Pragma("unroll 8") for (int r = threadIdx.x / 32; r < rows; r += 8) sum += in[(long)r * size + e];
    }
    shared[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x >= 32 || e >= size) return;
    for (int n = 1; n < 8; n++) sum += shared[n * 32 + threadIdx.x];
    (is_one ? one_out : two_out)[e] = sum;
}

// ---- depthwise convolutions --------------------------------------------------------------------
// 256 threads; a block has up to 64 channels, a thread four pixels of a row at a time.

// The first weights of a depthwise convolution, a pixel of the kernel after the other, 64 channels each.
template <int TAPS> __device__ inline void load_kernel(const T *weight, int first, int C, T *kernel) {
    for (int e = threadIdx.x; e < TAPS * 64; e += 256) {
        const int c = e % 64;
        kernel[e] = first + c < C ? weight[(first + c) * TAPS + e / 64] : T(0);
    }
    __syncthreads();
}

template <int K, int D, int S>
__device__ void depthwise_forward(const T *x, int x_stride, const T *scale, const T *shift, int images, int H,
                                  int W, int C, const T *weight, T *y) {
    constexpr int pad = D * (K / 2), span = 3 * S + (K - 1) * D + 1;
    alignas(16) __shared__ T kernel[K * K * 64];
    const int first = blockIdx.y * 64, quads = min(16, (C - first) / 4), lanes = 256 / quads;
    load_kernel<K * K>(weight, first, C, kernel);
    const int Ho = (H - 1) / S + 1, Wo = (W - 1) / S + 1, strips = (Wo + 3) / 4;
    const int lane = threadIdx.x / quads, q = threadIdx.x % quads * 4, c = first + q;
    const int item = blockIdx.x * lanes + lane;
    if (lane >= lanes || item >= images * Ho * strips) return;
    const int j0 = item % strips * 4, i = item / strips % Ho, n = item / strips / Ho;
    Quad a{}, b{};
    if (scale) a = get(scale + c), b = get(shift + c);
    Quad out[4] = {};
    UNROLLED for (int u = 0; u < K; u++) {
        const int row = i * S - pad + u * D;
        if (row < 0 || row >= H) continue;
        const T *from = x + (long)(n * H + row) * W * x_stride + c;
        Quad in[span];
        UNROLLED for (int m = 0; m < span; m++) {
            const int column = j0 * S - pad + m;
            in[m] = Quad{};
            if (column < 0 || column >= W) continue;
            in[m] = get(from + (long)column * x_stride);
            if (scale) EACH_OF_4(k) in[m].v[k] = in[m].v[k] * a.v[k] + b.v[k];
            EACH_OF_4(k) in[m].v[k] = relu(in[m].v[k]);
        }
        UNROLLED for (int v = 0; v < K; v++) {
            const Quad w = get(kernel + (u * K + v) * 64 + q);
            EACH_OF_4(r) EACH_OF_4(k) out[r].v[k] += in[r * S + v * D].v[k] * w.v[k];
        }
    }
    EACH_OF_4(r) {
        if (j0 + r >= Wo) break;
        put(y + ((long)(n * Ho + i) * Wo + j0 + r) * C + c, out[r], 0);
    }
}

// Gradients of what a depthwise convolution read, before its ReLU and affine map, and of its kernel:
// a block's share. With an affine map, also the sums of the batch norm that it belongs to.
template <int K, int D, int S>
__device__ void depthwise_backward(const T *g, const T *x, int x_stride, const T *scale, const T *shift,
                                   const double *x_mean, int mean_rows, int images, int H, int W, int C,
                                   const T *weight, T *x_gradient, int xg_stride, int add, T *shares,
                                   double *g_sums, double *gx_sums) {
    constexpr int pad = D * (K / 2), before = pad / S, span = (3 + pad) / S + before + 1;
    alignas(16) __shared__ T kernel[K * K * 64];
    alignas(16) __shared__ char room[(K * sizeof(Pair) > 32 ? K * sizeof(Pair) : 32) * 256];
    const int first = blockIdx.y * 64, pairs = min(32, (C - first) / 2);
    int lanes = 128;
    while (lanes * pairs > 256) lanes /= 2;
    load_kernel<K * K>(weight, first, C, kernel);
    const int Ho = (H - 1) / S + 1, Wo = (W - 1) / S + 1, strips = (W + 3) / 4;
    const int lane = threadIdx.x / pairs, q = threadIdx.x % pairs * 2, c = first + q;
    Pair a{}, b{}, of_kernel[K][K] = {};
    double mean[2] = {}, of_g[2] = {}, of_gx[2] = {};
    if (scale) {
        a = *(const Pair *)(scale + c), b = *(const Pair *)(shift + c);
        mean[0] = x_mean[(long)c * mean_rows], mean[1] = x_mean[(long)(c + 1) * mean_rows];
    }
    for (int item = blockIdx.x * lanes + lane; lane < lanes && item < images * H * strips;
         item += gridDim.x * lanes) {
        const int j0 = item % strips * 4, i = item / strips % H, n = item / strips / H;
        const long at = (long)(n * H + i) * W + j0;
        Pair in[4] = {}, active[4] = {}, out[4] = {};
        EACH_OF_4(r) {
            if (j0 + r >= W) break;
            in[r] = *(const Pair *)(x + (at + r) * x_stride + c);
            UNROLLED for (int k = 0; k < 2; k++)
                active[r].v[k] = relu(scale ? in[r].v[k] * a.v[k] + b.v[k] : in[r].v[k]);
        }
        UNROLLED for (int u = 0; u < K; u++) {
            const int row = i + pad - u * D;
            if (row < 0 || row % S != 0 || row / S >= Ho) continue;
            const T *from = g + (long)(n * Ho + row / S) * Wo * C + c;
            Pair gradient[span];
            UNROLLED for (int m = 0; m < span; m++) {
                const int column = j0 / S - before + m;
                gradient[m] = Pair{};
                if (column >= 0 && column < Wo) gradient[m] = *(const Pair *)(from + (long)column * C);
            }
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
        EACH_OF_4(r) {
            if (j0 + r >= W) break;
            Pair *to = (Pair *)(x_gradient + (at + r) * xg_stride + c);
            UNROLLED for (int k = 0; k < 2; k++) {
                if (active[r].v[k] <= 0) out[r].v[k] = 0;
                of_g[k] += out[r].v[k];
                of_gx[k] += out[r].v[k] * (in[r].v[k] - mean[k]);
                if (add) out[r].v[k] += to->v[k];
            }
            *to = out[r];
        }
    }
    Pair *shared = (Pair *)room;
    UNROLLED for (int u = 0; u < K; u++) {
        __syncthreads();
        UNROLLED for (int v = 0; v < K; v++) shared[v * 256 + threadIdx.x] = of_kernel[u][v];
        for (int half = lanes / 2; half > 0; half /= 2) {
            __syncthreads();
            for (int e = threadIdx.x; e < K * half * pairs; e += 256) {
                Pair *to = shared + e / (half * pairs) * 256 + e % (half * pairs);
                to[0].v[0] += to[half * pairs].v[0];
                to[0].v[1] += to[half * pairs].v[1];
            }
        }
        __syncthreads();
        for (int e = threadIdx.x; e < K * pairs; e += 256) {
            const int v = e / pairs, pair = e % pairs;
            T *to = shares + ((long)blockIdx.x * C + first + 2 * pair) * K * K + u * K + v;
            to[0] = shared[v * 256 + pair].v[0];
            to[K * K] = shared[v * 256 + pair].v[1];
        }
    }
    if (!scale) return;
    double *sums = (double *)room;
    __syncthreads();
    UNROLLED for (int k = 0; k < 2; k++) {
        sums[(2 * k) * 256 + threadIdx.x] = of_g[k];
        sums[(2 * k + 1) * 256 + threadIdx.x] = of_gx[k];
    }
    for (int half = lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half) EACH_OF_4(k) {
                sums[k * 256 + threadIdx.x] += sums[k * 256 + threadIdx.x + half * pairs];
            }
    }
    if (lane == 0) UNROLLED for (int k = 0; k < 2; k++) {
            g_sums[(long)(c + k) * gridDim.x + blockIdx.x] = sums[(2 * k) * 256 + threadIdx.x];
            gx_sums[(long)(c + k) * gridDim.x + blockIdx.x] = sums[(2 * k + 1) * 256 + threadIdx.x];
        }
}

#define DEPTHWISE(K, D, S)                                                                               \
    extern "C" __global__ void depthwise_forward_##K##D##S(                                              \
        const T *x, int x_stride, const T *scale, const T *shift, int images, int H, int W, int C,       \
        const T *weight, T *y) {                                                                         \
        depthwise_forward<K, D, S>(x, x_stride, scale, shift, images, H, W, C, weight, y);               \
    }                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 2) depthwise_backward_##K##D##S(                   \
        const T *g, const T *x, int x_stride, const T *scale, const T *shift, const double *x_mean,      \
        int mean_rows, int images, int H, int W, int C, const T *weight, T *x_gradient, int xg_stride,   \
        int add, T *shares, double *g_sums, double *gx_sums) {                                           \
        depthwise_backward<K, D, S>(g, x, x_stride, scale, shift, x_mean, mean_rows, images, H, W, C,    \
                                    weight, x_gradient, xg_stride, add, shares, g_sums, gx_sums);        \
    }

DEPTHWISE(3, 1, 1)
DEPTHWISE(3, 1, 2)
DEPTHWISE(5, 1, 1)
DEPTHWISE(5, 1, 2)
DEPTHWISE(3, 2, 1)
DEPTHWISE(3, 2, 2)
DEPTHWISE(5, 2, 1)
DEPTHWISE(5, 2, 2)

// ---- sums of maps, and pools: a thread per quad of a pixel -------------------------------------

// The sum of two maps, each after an affine map per channel and a weight per image, if any.
extern "C" __global__ void join(const T *one, int one_stride, const T *one_scale, const T *one_shift,
                                const T *one_weights, const T *two, int two_stride, const T *two_scale,
                                const T *two_shift, const T *two_weights, int num_pixels, int pixels, int C,
                                T *out, int out_stride) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x, p = e / (C / 4), c = e % (C / 4) * 4;
    if (p >= num_pixels) return;
    const T w1 = one_weights ? one_weights[p / pixels] : T(1);
    const T w2 = two_weights ? two_weights[p / pixels] : T(1);
    Quad a = get(one + (long)p * one_stride + c), b = get(two + (long)p * two_stride + c);
    if (one_scale) {
        const Quad scale = get(one_scale + c), shift = get(one_shift + c);
        EACH_OF_4(i) a.v[i] = a.v[i] * scale.v[i] + shift.v[i];
    }
    if (two_scale) {
        const Quad scale = get(two_scale + c), shift = get(two_shift + c);
        EACH_OF_4(i) b.v[i] = b.v[i] * scale.v[i] + shift.v[i];
    }
    EACH_OF_4(i) a.v[i] = a.v[i] * w1 + b.v[i] * w2;
    put(out + (long)p * out_stride + c, a, 0);
}

// One map after an affine map per channel and a weight per image, if any, written or added.
extern "C" __global__ void copy(const T *x, int x_stride, const T *scale, const T *shift, const T *weights,
                                int num_pixels, int pixels, int C, T *out, int out_stride, int add) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x, p = e / (C / 4), c = e % (C / 4) * 4;
    if (p >= num_pixels) return;
    const T weight = weights ? weights[p / pixels] : T(1);
    Quad q = get(x + (long)p * x_stride + c);
    if (scale) {
        const Quad a = get(scale + c), b = get(shift + c);
        EACH_OF_4(i) q.v[i] = q.v[i] * a.v[i] + b.v[i];
    }
    EACH_OF_4(i) q.v[i] *= weight;
    put(out + (long)p * out_stride + c, q, add);
}

// How much each of the pixels counts that a 3x3 average sees, without those over the border.
__device__ inline T share(int i, int j, int s, int H, int W) {
    const int rows = min(i * s + 2, H) - max(i * s - 1, 0);
    return T(1) / T(rows * (min(j * s + 2, W) - max(j * s - 1, 0)));
}

// 3x3 pools with a border of one pixel. A maximum (`which` is given) remembers which of the nine.
extern "C" __global__ void pool_forward(const T *x, int x_stride, int images, int H, int W, int C, int s,
                                        T *y, Byte *which) {
    const int Ho = (H - 1) / s + 1, Wo = (W - 1) / s + 1;
    const int e = blockIdx.x * blockDim.x + threadIdx.x, p = e / (C / 4), c = e % (C / 4) * 4;
    if (p >= images * Ho * Wo) return;
    const int j = p % Wo, i = p / Wo % Ho, n = p / (Wo * Ho);
    Quad sum{}, best{};
    Byte index[4] = {};
    bool any = false;
    UNROLLED for (int u = 0; u < 3; u++) UNROLLED for (int v = 0; v < 3; v++) {
        const int row = i * s - 1 + u, column = j * s - 1 + v;
        if (row < 0 || row >= H || column < 0 || column >= W) continue;
        const Quad q = get(x + (long)((n * H + row) * W + column) * x_stride + c);
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
        EACH_OF_4(k) which[(long)p * C + c + k] = index[k];
        put(y + (long)p * C + c, best, 0);
        return;
    }
    EACH_OF_4(k) sum.v[k] *= share(i, j, s, H, W);
    put(y + (long)p * C + c, sum, 0);
}

extern "C" __global__ void pool_backward(const T *g, int g_stride, const T *weights, const Byte *which,
                                         int images, int H, int W, int C, int s, T *x_gradient,
                                         int xg_stride, int add) {
    const int Ho = (H - 1) / s + 1, Wo = (W - 1) / s + 1;
    const int e = blockIdx.x * blockDim.x + threadIdx.x, p = e / (C / 4), c = e % (C / 4) * 4;
    if (p >= images * H * W) return;
    const int column = p % W, row = p / W % H, n = p / (W * H);
    const T weight = weights ? weights[n] : T(1);
    Quad sum{};
    UNROLLED for (int u = 0; u < 3; u++) UNROLLED for (int v = 0; v < 3; v++) {
        const int down = row + 1 - u, right = column + 1 - v;
        if (down < 0 || right < 0 || down % s != 0 || right % s != 0) continue;
        const int i = down / s, j = right / s;
        if (i >= Ho || j >= Wo) continue;
        const long at = (long)(n * Ho + i) * Wo + j;
        const Quad q = get(g + at * g_stride + c);
        const T part = which ? weight : weight * share(i, j, s, H, W);
        EACH_OF_4(k) if (!which || which[at * C + c + k] == u * 3 + v) sum.v[k] += q.v[k] * part;
    }
    put(x_gradient + (long)p * xg_stride + c, sum, add);
}
