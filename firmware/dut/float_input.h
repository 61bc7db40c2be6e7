#ifndef LABD_FLOAT_INPUT_H
#define LABD_FLOAT_INPUT_H

/* The elements of the loaded input before quantisation, kept apart from the `db` buffer: the host
 * may already be sending the next one when it asks for results again. */
extern float float_input[];

#endif
