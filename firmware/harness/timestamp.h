/* Timestamps, by build: a line with microseconds, or an edge of the timestamp pin. */
#ifndef LABD_TIMESTAMP_H
#define LABD_TIMESTAMP_H

/* Sends the mode line of the prologue. */
void timestamp_announce(void);

/* Sets a timestamp. */
void timestamp(void);

#endif
