/* A library with the functions of NVML that are called, for machines without its driver. */
#include <string.h>

static unsigned long long energy_mj = 1000;
static unsigned int power_mw = 50000;
static int init_code, energy_code, power_code, users;

void stub_set(unsigned long long energy, unsigned int power, int init, int e_code, int p_code) {
    energy_mj = energy; power_mw = power; init_code = init; energy_code = e_code; power_code = p_code;
}
int stub_users(void) { return users; }
int nvmlInit_v2(void) { users += !init_code; return init_code; }
int nvmlShutdown(void) { users--; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
    if (index > 1) return 2;
    *handle = (void *)0x7f0000000001ULL;  /* does not fit into an int */
    return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *value) {
    if (handle != (void *)0x7f0000000001ULL) return 2;
    *value = energy_mj;
    return energy_code;
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned int *value) {
    if (handle != (void *)0x7f0000000001ULL) return 2;
    *value = power_mw;
    return power_code;
}
const char *nvmlErrorString(int code) { return code == 2 ? "Invalid Argument" : "GPU is lost"; }
