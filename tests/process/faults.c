/* A disk that fails, for a process that it is preloaded into: writes and syncs of files below a folder give EIO while a
 * trigger file holds the beginning of their names, and every such call is told in another file. System calls are caught by a seccomp filter rather
 * than functions by their names, so that it does not matter how the program makes them.
 *
 * SYNAPSE_TEST_FAULTS names a folder: in it, `path` holds the folder of the files that are meant, `fail-sync` (for
 * fdatasync), `fail-allocate` (for fsync, which ends the allocation of a file) and `fail-write` are the triggers, and
 * `calls` gets a line a call: one of these three words, the file's name, and `done` or `failed`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define REG(context, name) ((context)->uc_mcontext.gregs[name])
#define SET_RESULT(context, value) (REG(context, REG_RAX) = (value))
#define ARGUMENT_0(context) REG(context, REG_RDI)
#define ARGUMENT_1(context) REG(context, REG_RSI)
#define ARGUMENT_2(context) REG(context, REG_RDX)
#define ARGUMENT_3(context) REG(context, REG_R10)
#define ARGUMENT_4(context) REG(context, REG_R8)
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#define REG(context, n) ((context)->uc_mcontext.regs[n])
#define SET_RESULT(context, value) (REG(context, 0) = (value))
#define ARGUMENT_0(context) REG(context, 0)
#define ARGUMENT_1(context) REG(context, 1)
#define ARGUMENT_2(context) REG(context, 2)
#define ARGUMENT_3(context) REG(context, 3)
#define ARGUMENT_4(context) REG(context, 4)
#else
#error "not known on this processor"
#endif

/* The sixth argument, which none of these calls has, of a call that the handler makes itself. */
#define OURS 0x5a17ca11

static char folder_meant[4096], folder_of_tests[4096], calls[4096];

/* The name of the file behind a descriptor below the folder that is meant; null for others. */
static const char *name_of(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return NULL;
    path[length] = 0;
    size_t start = strlen(folder_meant);
    return strncmp(path, folder_meant, start) == 0 && path[start] == '/' ? path + start + 1 : NULL;
}

/* Whether such calls are to fail on files of that name. */
static int is_to_fail(const char *what, const char *name) {
    char trigger[4200];
    snprintf(trigger, sizeof trigger, "%s/fail-%s", folder_of_tests, what);
    int fd = open(trigger, O_RDONLY);
    if (fd < 0) return 0;
    char beginning[64];
    ssize_t length = read(fd, beginning, sizeof beginning);
    close(fd);
    return length > 0 && strncmp(name, beginning, length) == 0;
}

static void tell(const char *what, const char *name, long result) {
    char line[4200];
    int length = snprintf(line, sizeof line, "%s %s %s\n", what, name, result < 0 ? "failed" : "done");
    int fd = open(calls, O_WRONLY | O_APPEND | O_CREAT, 0644);
    if (fd < 0 || write(fd, line, length) != length) abort();
    close(fd);
}

static void on_call(int signal, siginfo_t *info, void *context_pointer) {
    (void)signal;
    ucontext_t *context = context_pointer;
    int saved = errno;
    long number = info->si_syscall;
    const char *what = number == SYS_fdatasync ? "sync" : number == SYS_fsync ? "allocate" : "write";
    char path[4096];
    const char *name = name_of((int)ARGUMENT_0(context), path, sizeof path);
    long result;
    if (name && is_to_fail(what, name)) {
        result = -EIO;
    } else {
        result = syscall(number, ARGUMENT_0(context), ARGUMENT_1(context), ARGUMENT_2(context), ARGUMENT_3(context),
                         ARGUMENT_4(context), (long)OURS);
        if (result < 0) result = -errno;
    }
    if (name) tell(what, name, result);
    SET_RESULT(context, result);
    errno = saved;
}

#define CATCH(number) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3), \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])), \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OURS, 1, 0), \
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP), \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("SYNAPSE_TEST_FAULTS");
    if (!folder) return;
    snprintf(folder_of_tests, sizeof folder_of_tests, "%s", folder);
    snprintf(calls, sizeof calls, "%s/calls", folder);
    char path[4096];
    snprintf(path, sizeof path, "%s/path", folder);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(folder_meant, sizeof folder_meant, file)) abort();
    fclose(file);
    struct sigaction action = {0};
    action.sa_sigaction = on_call;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    if (sigaction(SIGSYS, &action, NULL)) abort();
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        CATCH(SYS_fdatasync),
        CATCH(SYS_fsync),
        CATCH(SYS_pwritev),
        CATCH(SYS_pwritev2),
        CATCH(SYS_pwrite64),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("the filter of system calls is refused");
        abort();
    }
}
