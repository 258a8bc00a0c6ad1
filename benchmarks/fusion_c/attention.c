/* Attention of one head, ROWS steps of COLS features, and its gradients for the cotangent g.
 *
 * A row of probabilities lives in cache; products run along features or steps, whichever is contiguous.
 */
#include <math.h>

static void transposed(const float *restrict a, float *restrict t)
{
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++)
            t[j * ROWS + i] = a[i * COLS + j];
}

/* out = row @ t, of features with the transposed matrix t. */
static void across(const float *restrict row, const float *restrict t, float *restrict out)
{
    for (int j = 0; j < ROWS; j++)
        out[j] = 0;
    for (int k = 0; k < COLS; k++)
        for (int j = 0; j < ROWS; j++)
            out[j] += row[k] * t[k * ROWS + j];
}

void attention(const float *restrict q, const float *restrict k, const float *restrict v,
               const float *restrict g, float *restrict y, float *restrict dq, float *restrict dk,
               float *restrict dv)
{
    const float scale = 1.0f / sqrtf(COLS);
    float kt[ROWS * COLS], vt[ROWS * COLS], p[ROWS], dp[ROWS];
    transposed(k, kt);
    transposed(v, vt);
    for (int i = 0; i < ROWS * COLS; i++)
        dk[i] = dv[i] = 0;
    for (int i = 0; i < ROWS; i++) {
        const float *qi = q + i * COLS, *gi = g + i * COLS;
        float out[COLS], dqi[COLS];
        float top, sum = 0, dot = 0;
        across(qi, kt, p);
        top = p[0];
        for (int j = 1; j < ROWS; j++)
            top = p[j] > top ? p[j] : top;
        for (int j = 0; j < ROWS; j++)
            sum += p[j] = expf((p[j] - top) * scale);
        across(gi, vt, dp);
        for (int j = 0; j < ROWS; j++) {
            p[j] /= sum;
            dot += p[j] * dp[j];
        }
        for (int c = 0; c < COLS; c++)
            out[c] = dqi[c] = 0;
        for (int j = 0; j < ROWS; j++) {
            const float pj = p[j], ds = pj * (dp[j] - dot) * scale;
            for (int c = 0; c < COLS; c++) {
                out[c] += pj * v[j * COLS + c];
                dv[j * COLS + c] += pj * gi[c];
                dqi[c] += ds * k[j * COLS + c];
                dk[j * COLS + c] += ds * qi[c];
            }
        }
        for (int c = 0; c < COLS; c++) {
            y[i * COLS + c] = out[c];
            dq[i * COLS + c] = dqi[c];
        }
    }
}
