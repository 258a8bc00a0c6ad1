/* An LSTM cell, ROWS items of COLS features and states, and its gradients for the cotangents gh and gc.
 *
 * Products run along contiguous rows: the weights are transposed once for the way forward.
 */
#include <math.h>

#define GATES (4 * COLS)

static inline float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static void transposed(const float *restrict w, float *restrict t)
{
    for (int i = 0; i < GATES; i++)
        for (int j = 0; j < COLS; j++)
            t[j * GATES + i] = w[i * COLS + j];
}

void lstm(const float *restrict x, const float *restrict h, const float *restrict c,
          const float *restrict wx, const float *restrict wh, const float *restrict b,
          const float *restrict gh, const float *restrict gc, float *restrict new_h,
          float *restrict new_c, float *restrict dx, float *restrict dh, float *restrict dc,
          float *restrict dwx, float *restrict dwh, float *restrict db)
{
    static float tx[GATES * COLS], th[GATES * COLS];
    transposed(wx, tx);
    transposed(wh, th);
    for (int k = 0; k < GATES * COLS; k++)
        dwx[k] = dwh[k] = 0;
    for (int k = 0; k < GATES; k++)
        db[k] = 0;
    for (int r = 0; r < ROWS; r++) {
        const float *xr = x + r * COLS, *hr = h + r * COLS;
        float z[GATES], dxr[COLS], dhr[COLS];
        for (int g = 0; g < GATES; g++)
            z[g] = b[g];
        for (int k = 0; k < COLS; k++)
            for (int g = 0; g < GATES; g++)
                z[g] += xr[k] * tx[k * GATES + g] + hr[k] * th[k * GATES + g];
        for (int j = 0; j < COLS; j++) {
            const int at = r * COLS + j;
            const float i = sigmoid(z[j]), f = sigmoid(z[COLS + j]);
            const float a = tanhf(z[2 * COLS + j]), o = sigmoid(z[3 * COLS + j]);
            const float n = f * c[at] + i * a, t = tanhf(n);
            const float d = gc[at] + gh[at] * o * (1.0f - t * t);
            new_h[at] = o * t;
            new_c[at] = n;
            z[j] = d * a * i * (1.0f - i);
            z[COLS + j] = d * c[at] * f * (1.0f - f);
            z[2 * COLS + j] = d * i * (1.0f - a * a);
            z[3 * COLS + j] = gh[at] * t * o * (1.0f - o);
            dc[at] = d * f;
        }
        for (int k = 0; k < COLS; k++)
            dxr[k] = dhr[k] = 0;
        for (int g = 0; g < GATES; g++) {
            const float dz = z[g];
            db[g] += dz;
            for (int k = 0; k < COLS; k++) {
                dxr[k] += dz * wx[g * COLS + k];
                dhr[k] += dz * wh[g * COLS + k];
                dwx[g * COLS + k] += dz * xr[k];
                dwh[g * COLS + k] += dz * hr[k];
            }
        }
        for (int k = 0; k < COLS; k++) {
            dx[r * COLS + k] = dxr[k];
            dh[r * COLS + k] = dhr[k];
        }
    }
}
