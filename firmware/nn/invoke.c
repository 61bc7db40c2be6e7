#include "nn.h"

static void run(const nn_model *model, const nn_step *step) {
    const int8_t *in = model->arena + step->in;
    int8_t *out = model->arena + step->out;
    switch (step->op) {
    case NN_CONV:
        nn_conv(&step->params.conv, in, out, model->column);
        break;
    case NN_DEPTHWISE_CONV:
        nn_depthwise_conv(&step->params.conv, in, out);
        break;
    case NN_FULLY_CONNECTED:
        nn_fully_connected(&step->params.fully_connected, in, out, model->column);
        break;
    case NN_AVERAGE_POOL:
        nn_average_pool(&step->params.average_pool, in, out);
        break;
    case NN_ADD:
        nn_add(&step->params.add, in, model->arena + step->in_b, out);
        break;
    case NN_SOFTMAX:
        nn_softmax(&step->params.softmax, in, out);
        break;
    }
}

void nn_invoke(const nn_model *model) {
    for (size_t i = 0; i < model->step_count; i++) {
        run(model, &model->steps[i]);
    }
}
