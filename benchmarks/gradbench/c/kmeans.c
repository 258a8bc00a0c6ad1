/* Newton direction of k-means: a centroid less the mean of the points that are nearest to it. */
#include <math.h>
#include <string.h>

/* `direction` (k, d) sums the points first; `counts` (k) is work space. */
void kmeans(const double *restrict points, const double *restrict centroids, long n, long k,
            long d, double *restrict counts, double *restrict direction) {
    memset(counts, 0, k * sizeof *counts);
    memset(direction, 0, k * d * sizeof *direction);
    for (long i = 0; i < n; i++) {
        const double *restrict p = points + i * d;
        double least = INFINITY;
        long nearest = 0;
        for (long j = 0; j < k; j++) {
            const double *restrict c = centroids + j * d;
            double distance = 0;
            for (long a = 0; a < d; a++) distance += (p[a] - c[a]) * (p[a] - c[a]);
            if (distance < least) {
                least = distance;
                nearest = j;
            }
        }
        counts[nearest] += 1;
        for (long a = 0; a < d; a++) direction[nearest * d + a] += p[a];
    }
    for (long j = 0; j < k; j++)
        for (long a = 0; a < d; a++)
            direction[j * d + a] = centroids[j * d + a] - direction[j * d + a] / counts[j];
}
