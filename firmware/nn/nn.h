/* int8 neural network inference in the arithmetic of the TensorFlow Lite Micro reference kernels.
 *
 * A model is a constant table of steps that work on one arena. Activations are NHWC with a batch
 * of one, and every tensor is int8: real = scale * (q - zero_point). The tables are written by
 * firmware/tools/tflite_to_c.py, which also checks the assumptions of the kernels. */
#ifndef LABD_NN_H
#define LABD_NN_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    NN_CONV,
    NN_DEPTHWISE_CONV,
    NN_FULLY_CONNECTED,
    NN_AVERAGE_POOL,
    NN_ADD,
    NN_SOFTMAX,
} nn_operator;

/* A real factor as multiplier * 2^(shift - 31), multiplier in [2^30, 2^31) or 0. */
typedef struct {
    int32_t multiplier;
    int32_t shift;
} nn_factor;

typedef struct {
    int32_t height, width, channels;
} nn_shape;

typedef struct {
    int32_t height, width, stride_y, stride_x, pad_top, pad_left;
} nn_window;

/* Range of the output after the activation function. */
typedef struct {
    int32_t min, max;
} nn_range;

/* Convolution and depthwise convolution (multiplier 1); weights are OHWI and 1HWO. */
typedef struct {
    nn_shape in, out;
    nn_window window;
    int32_t in_zero_point, out_zero_point;
    const int8_t *weights;
    const int32_t *bias;      /* one per output channel */
    const nn_factor *factors; /* one per output channel */
    nn_range range;
} nn_conv_params;

typedef struct {
    int32_t inputs, outputs;
    int32_t in_zero_point, out_zero_point;
    const int8_t *weights; /* outputs x inputs */
    const int32_t *bias;
    nn_factor factor;
    nn_range range;
} nn_fully_connected_params;

typedef struct {
    nn_shape in, out;
    nn_window window;
    nn_range range;
} nn_average_pool_params;

typedef struct {
    int32_t count;
    int32_t a_zero_point, b_zero_point, out_zero_point;
    nn_factor a_factor, b_factor, out_factor;
    nn_range range;
} nn_add_params;

/* Output scale 1/256, zero point -128. Differences below `difference_min` contribute nothing. */
typedef struct {
    int32_t count;
    nn_factor factor;
    int32_t difference_min;
} nn_softmax_params;

/* One operator: the offsets of its tensors in the arena, and its parameters. */
typedef struct {
    nn_operator op;
    uint32_t in, in_b, out; /* in_b: the second operand of NN_ADD */
    union {
        nn_conv_params conv; /* also NN_DEPTHWISE_CONV */
        nn_fully_connected_params fully_connected;
        nn_average_pool_params average_pool;
        nn_add_params add;
        nn_softmax_params softmax;
    } params;
} nn_step;

typedef struct {
    int8_t *data;
    size_t size;
    float scale;
    int32_t zero_point;
} nn_tensor;

typedef struct {
    const char *name;
    const nn_step *steps;
    size_t step_count;
    int8_t *arena;
    int16_t *column; /* working space of the dot products, see dot.h */
    nn_tensor input; /* not changed by an inference */
    nn_tensor output;
} nn_model;

/* Runs every step: model->input in, model->output out. */
void nn_invoke(const nn_model *model);

void nn_conv(const nn_conv_params *p, const int8_t *in, int8_t *out, int16_t *column);
void nn_depthwise_conv(const nn_conv_params *p, const int8_t *in, int8_t *out);
void nn_fully_connected(const nn_fully_connected_params *p, const int8_t *in, int8_t *out,
                        int16_t *column);
void nn_average_pool(const nn_average_pool_params *p, const int8_t *in, int8_t *out);
void nn_add(const nn_add_params *p, const int8_t *a, const int8_t *b, int8_t *out);
void nn_softmax(const nn_softmax_params *p, const int8_t *in, int8_t *out);

#endif
