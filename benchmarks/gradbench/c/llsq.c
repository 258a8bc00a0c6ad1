/* Gradient of a polynomial least-squares fit: a point at a time, its powers as a running product. */

void llsq(const double *restrict x, const double *restrict t, const double *restrict s, long n,
          long m, double *restrict gradient) {
    for (long j = 0; j < m; j++) gradient[j] = 0;
    for (long i = 0; i < n; i++) {
        double value = -s[i], power = 1;
        for (long j = 0; j < m; j++) {
            value += x[j] * power;
            power *= t[i];
        }
        power = 1;
        for (long j = 0; j < m; j++) {
            gradient[j] += value * power;
            power *= t[i];
        }
    }
}

/* The same with the powers kept, so that the second pass is a sum of arrays. `powers` (m). */
void llsq_kept(const double *restrict x, const double *restrict t, const double *restrict s,
               long n, long m, double *restrict powers, double *restrict gradient) {
    for (long j = 0; j < m; j++) gradient[j] = 0;
    for (long i = 0; i < n; i++) {
        double value = -s[i], power = 1;
        for (long j = 0; j < m; j++) {
            powers[j] = power;
            value += x[j] * power;
            power *= t[i];
        }
        for (long j = 0; j < m; j++) gradient[j] += value * powers[j];
    }
}
