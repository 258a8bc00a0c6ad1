/* Jacobian of hand tracking's residuals: forward by hand. An angle of a finger moves the bones of
 * that finger from its joint on, and nothing else. */
#include <math.h>
#include <string.h>

#define FINGERS 5
#define JOINTS 4
#define BONES 22
#define ANGLES 4  /* of a finger: two of its first joint, one of the second, one of the third */
#define COLUMNS 28
#define FIELD (3 * (1 + FINGERS * ANGLES))  /* of a vertex: where it is, and its 20 derivatives */

static const int JOINT[ANGLES] = {0, 0, 1, 2}, AXIS[ANGLES] = {0, 1, 0, 0};

typedef double Matrix[9];
typedef double Motion[12];  /* 3 x 4 */

typedef struct {
    Matrix rotation, by_axis[3];
    Motion bone[BONES];
    Motion by_angle[FINGERS][ANGLES][JOINTS];  /* turned by the rotation already */
} Pose;

static void times(const double *a, const double *b, double *restrict out) {
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            out[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
}

static void apply(const double *a, const double *v, double *restrict out) {
    for (int i = 0; i < 3; i++)
        out[i] = a[3 * i] * v[0] + a[3 * i + 1] * v[1] + a[3 * i + 2] * v[2];
}

/* The rotation by an axis times an angle, and its derivatives by the three. */
static void turn(const double *v, double *restrict out, Matrix *restrict by) {
    const double square = v[0] * v[0] + v[1] * v[1] + v[2] * v[2], angle = sqrt(square);
    const int small = square < 1e-8;
    const double sine = small ? 1 : sin(angle) / angle;
    const double one = small ? 0 : (1 - cos(angle)) / square;
    const double by_sine = small ? 0 : (cos(angle) - sine) / square;
    const double by_one = small ? 0 : (sine - 2 * one) / square;
    const double skew[9] = {0, -v[2], v[1], v[2], 0, -v[0], -v[1], v[0], 0};
    double twice[9];
    times(skew, skew, twice);
    for (int i = 0; i < 9; i++) out[i] = (i % 4 == 0) + sine * skew[i] + one * twice[i];
    for (int k = 0; k < 3; k++) {
        double unit[9] = {0}, left[9], right[9];
        unit[3 * ((k + 2) % 3) + (k + 1) % 3] = 1;
        unit[3 * ((k + 1) % 3) + (k + 2) % 3] = -1;
        times(unit, skew, left);
        times(skew, unit, right);
        for (int i = 0; i < 9; i++)
            by[k][i] = sine * unit[i] + one * (left[i] + right[i])
                       + v[k] * (by_sine * skew[i] + by_one * twice[i]);
    }
}

/* The rotation about x, then about y, and its derivatives by both. */
static void bend(double x, double y, double *restrict out, Matrix *restrict by) {
    const double sx = sin(x), cx = cos(x), sy = sin(y), cy = cos(y);
    const Matrix value = {cy, sx * sy, cx * sy, 0, cx, -sx, -sy, sx * cy, cx * cy};
    const Matrix by_x = {0, cx * sy, -sx * sy, 0, -sx, -cx, 0, cx * cy, -sx * cy};
    const Matrix by_y = {-sy, sx * cy, cx * cy, 0, 0, 0, -cy, -sx * sy, -cx * sy};
    memcpy(out, value, sizeof value);
    memcpy(by[0], by_x, sizeof by_x);
    memcpy(by[1], by_y, sizeof by_y);
}

/* What a bone does to the hand at rest. */
static void motion(const double *whole, const double *at, const double *back, const double *origin,
                   double *restrict out) {
    double turned[9], moved[3];
    times(whole, back, turned);
    apply(whole, origin, moved);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) out[4 * i + j] = turned[3 * i + j];
        out[4 * i + 3] = moved[i] + at[i];
    }
}

static void step(const double *before, const double *shift, const double *at_before,
                 double *restrict at) {
    apply(before, shift, at);
    for (int i = 0; i < 3; i++) at[i] += at_before[i];
}

static void turn_motion(const double *rotation, double *restrict m) {
    double turned[12];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            turned[4 * i + j] = rotation[3 * i] * m[j] + rotation[3 * i + 1] * m[4 + j]
                                + rotation[3 * i + 2] * m[8 + j];
    memcpy(m, turned, sizeof turned);
}

static void finger(long f, const double *angles, const double *turns, const double *shifts,
                   const double *back, const double *origin, const double *palm,
                   const double *palm_at, Pose *restrict pose) {
    const double *up = palm, *up_at = palm_at;
    Matrix whole[JOINTS], by_whole[ANGLES], next;
    double at[JOINTS][3], by_at[ANGLES][3] = {{0}}, next_at[3];
    for (int j = 0; j < JOINTS; j++) {
        const long b = 2 + JOINTS * f + j;
        Matrix bent, by[2], turned, joined;
        bend(j < 3 ? angles[j ? j + 1 : 0] : 0, j ? 0 : angles[1], bent, by);
        times(turns + 9 * b, bent, turned);
        times(up, turned, whole[j]);
        step(up, shifts + 3 * b, up_at, at[j]);
        motion(whole[j], at[j], back + 9 * b, origin + 3 * b, pose->bone[b]);
        for (int k = 0; k < ANGLES && JOINT[k] <= j; k++) {
            if (JOINT[k] == j) {
                times(turns + 9 * b, by[AXIS[k]], joined);
                times(up, joined, by_whole[k]);
            } else {
                step(by_whole[k], shifts + 3 * b, by_at[k], next_at);
                times(by_whole[k], turned, next);
                memcpy(by_whole[k], next, sizeof next);
                memcpy(by_at[k], next_at, sizeof next_at);
            }
            double *restrict m = pose->by_angle[f][k][j];
            motion(by_whole[k], by_at[k], back + 9 * b, origin + 3 * b, m);
            turn_motion(pose->rotation, m);
        }
        up = whole[j];
        up_at = at[j];
    }
}

static void take_pose(const double *theta, const double *turns, const double *shifts,
                      const double *back, const double *origin, Pose *restrict pose) {
    Matrix palm;
    double palm_at[3];
    turn(theta, pose->rotation, pose->by_axis);
    motion(turns, shifts, back, origin, pose->bone[0]);
    times(turns, turns + 9, palm);
    step(turns, shifts + 3, shifts, palm_at);
    motion(palm, palm_at, back + 9, origin + 3, pose->bone[1]);
    for (long f = 0; f < FINGERS; f++)
        finger(f, theta + 6 + ANGLES * f, turns, shifts, back, origin, palm, palm_at, pose);
}

static void move(const double *restrict m, const double *restrict v, double *restrict out) {
    for (int i = 0; i < 3; i++)
        out[i] = m[4 * i] * v[0] + m[4 * i + 1] * v[1] + m[4 * i + 2] * v[2] + m[4 * i + 3];
}

/* A vertex before the rotation, and its derivatives by the 20 angles after it. */
static void skin_vertex(const Pose *restrict pose, const double *restrict vertex,
                        const double *restrict weights, double *restrict field) {
    Motion blend = {0};
    for (int b = 0; b < BONES; b++)
        for (int e = 0; e < 12; e++) blend[e] += weights[b] * pose->bone[b][e];
    move(blend, vertex, field);
    for (int f = 0; f < FINGERS; f++)
        for (int k = 0; k < ANGLES; k++) {
            Motion change = {0};
            for (int j = JOINT[k]; j < JOINTS; j++) {
                const double weight = weights[2 + JOINTS * f + j];
                for (int e = 0; e < 12; e++) change[e] += weight * pose->by_angle[f][k][j][e];
            }
            move(change, vertex, field + 3 * (1 + ANGLES * f + k));
        }
}

/* Three rows of an observed point, whose triangle's corners are given: 28 columns, or 26 without `both`. */
static void rows(const Pose *restrict pose, const double *restrict u,
                 const double *const *corners, long both, double *restrict out) {
    const double share[3] = {u[0], u[1], 1 - u[0] - u[1]};
    double mean[FIELD], edge[2][3], column[3];
    for (int i = 0; i < FIELD; i++)
        mean[i] = share[0] * corners[0][i] + share[1] * corners[1][i] + share[2] * corners[2][i];
    const long columns = both ? COLUMNS : COLUMNS - 2;
    for (int k = 0; both && k < 2; k++) {
        for (int i = 0; i < 3; i++) edge[k][i] = corners[k][i] - corners[2][i];
        apply(pose->rotation, edge[k], column);
        for (int i = 0; i < 3; i++) out[COLUMNS * i + k] = -column[i];
    }
    if (both) out += 2;
    for (int k = 0; k < 3; k++) {
        apply(pose->by_axis[k], mean, column);
        for (int i = 0; i < 3; i++) {
            out[columns * i + k] = -column[i];
            out[columns * i + 3 + k] = i == k ? -1 : 0;
        }
    }
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < FINGERS * ANGLES; k++)
            out[columns * i + 6 + k] = -mean[3 * (1 + k) + i];
}

/* `fields`, of 63 numbers a vertex, is work space for all vertices; where it is null, only the corners of
 * triangles that are looked at are moved. */
void ht(const double *restrict theta, const double *restrict u, const long *restrict corners,
        const double *restrict turns, const double *restrict shifts, const double *restrict back,
        const double *restrict origin, const double *restrict skin, const double *restrict weights,
        long c, long vertices, long both, double *restrict fields, double *restrict jacobian) {
    Pose pose;
    take_pose(theta, turns, shifts, back, origin, &pose);
    if (fields)
        for (long v = 0; v < vertices; v++)
            skin_vertex(&pose, skin + 3 * v, weights + BONES * v, fields + FIELD * v);
    for (long i = 0; i < c; i++) {
        double own[3][FIELD];
        const double *corner[3];
        for (int a = 0; a < 3; a++) {
            const long v = corners[3 * i + a];
            if (!fields) skin_vertex(&pose, skin + 3 * v, weights + BONES * v, own[a]);
            corner[a] = fields ? fields + FIELD * v : own[a];
        }
        rows(&pose, u + 2 * i, corner, both, jacobian + 3 * (both ? COLUMNS : COLUMNS - 2) * i);
    }
}
