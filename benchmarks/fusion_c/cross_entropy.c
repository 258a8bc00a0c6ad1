/* Mean softmax cross-entropy of ROWS x COLS scores and its gradient: three passes over a row in cache. */
#include <math.h>

void cross_entropy(const float *restrict x, const long *restrict target, float *restrict loss,
                   float *restrict dx)
{
    float total = 0;
    for (int i = 0; i < ROWS; i++) {
        const float *xi = x + i * COLS;
        float *di = dx + i * COLS;
        float top = xi[0], sum = 0;
        for (int j = 1; j < COLS; j++)
            top = xi[j] > top ? xi[j] : top;
        for (int j = 0; j < COLS; j++)
            sum += di[j] = expf(xi[j] - top);
        const float scale = 1.0f / (sum * ROWS);
        for (int j = 0; j < COLS; j++)
            di[j] *= scale;
        total += logf(sum) + top - xi[target[i]];
        di[target[i]] -= 1.0f / ROWS;
    }
    *loss = total / ROWS;
}
