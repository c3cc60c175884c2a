/* A publisher of libzmq, the reference implementation, which Bitcoin Core uses. Binds to the address given, says which
 * one it got, and publishes a message for each line it reads: its words are the parts, in hex; "*N" is a part of N bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

static void send_part(void *socket, const char *word, int flags) {
    size_t size = *word == '*' ? strtoul(word + 1, NULL, 10) : strlen(word) / 2;
    unsigned char *part = calloc(size + 1, 1);
    if (part == NULL) exit(2);
    for (size_t at = 0; *word != '*' && at < size; at++) {
        unsigned byte = 0;
        if (sscanf(word + 2 * at, "%2x", &byte) != 1) exit(3);
        part[at] = (unsigned char)byte;
    }
    if (zmq_send(socket, part, size, flags) < 0) exit(4);
    free(part);
}

int main(int argc, char **argv) {
    char line[4096], endpoint[256];
    size_t length = sizeof endpoint;
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_PUB);
    if (argc != 2 || zmq_bind(socket, argv[1]) != 0) {
        perror("zmq_bind");
        return 1;
    }
    zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &length);
    printf("%s\n", endpoint);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *word = strtok(line, " \n");
        while (word != NULL) {
            char *next = strtok(NULL, " \n");
            send_part(socket, word, next == NULL ? 0 : ZMQ_SNDMORE);
            word = next;
        }
    }
    return 0;
}
