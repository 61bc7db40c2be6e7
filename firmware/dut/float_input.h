#ifndef LABD_FLOAT_INPUT_H
#define LABD_FLOAT_INPUT_H

/* The elements of the loaded input before quantisation, kept outside the `db` buffer: the host
 * may have sent a part of the next one when it asks for results again. */
extern float float_input[];

#endif
