// The cycle loop around a Verilated model: pokes in, wake-ups and tap records out.
//
// Compiled together with the model and with tables.inc, which lists the design's fields. All
// fields are plain bytes in the model's ports (little-endian hosts only, as Verilator's own
// storage is read directly). One call of run() advances until software has something to decide.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"

namespace {

struct Port {
    void* storage;
    uint32_t bytes;
};

struct Field {
    uint32_t port, lsb, width;
};

struct Poke {
    uint64_t cycle, value;
    uint32_t field, order;  // order: counts pokes given, so that the later of two wins
};

struct Record {
    uint64_t cycle;
    uint32_t channel, unused;
    uint32_t words[4];
};

// One step of a program: an operation of an asker, or (POKE) a new value of an input field, or
// (AWAIT) reads of a system register until it is data and IRQ is size, settle times at most.
struct Step {
    uint64_t address, data;
    uint32_t target;  // asker or field
    uint16_t settle;  // clocks afterwards
    uint8_t kind, size;
};

struct Outcome {
    uint64_t cycle, data;
    uint32_t error, levels;  // levels: of WAKE_CHANGE, one bit each
};

struct Asker {
    uint32_t kind, size, address, data, valid, answered, answer, error;  // fields
};

constexpr uint8_t READ_SYSREG = 2, POKE = 4, AWAIT = 5;

enum Reason : uint32_t { WATCHED = 1, DUE = 2, FULL = 4 };

#include "tables.inc"  // FIELDS, TAP_CHANNELS, WAKE_*, VIEW, ASKERS, list_ports, RAM

constexpr uint64_t PAGE_WORDS = 1024;
constexpr uint64_t PAGES = (RAM_WORDS + PAGE_WORDS - 1) / PAGE_WORDS;
constexpr size_t MAX_RECORDS = 1u << 22;
constexpr uint32_t LOOK = 8;  // clocks between looks for a design that rests: each costs a copy

struct Snapshot {
    uint64_t cycle;
    std::vector<uint8_t> before, after;  // the model's state around its RAM
    std::vector<Poke> schedule;
    uint32_t given;
    std::vector<uint8_t> levels;
    std::vector<uint32_t> pages;
    std::vector<uint32_t> words;
    std::vector<Record> records;
};

}  // namespace

struct Sim {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    std::vector<Port> ports;
    uint64_t cycle = 0;
    std::vector<Poke> schedule;  // a heap, the earliest first
    uint32_t given = 0;
    std::vector<uint8_t> levels = std::vector<uint8_t>(std::size(WAKE_CHANGE));
    std::vector<Record> records;
    std::vector<uint8_t> page_written = std::vector<uint8_t>(PAGES);
    std::vector<Snapshot> snapshots;
    uint64_t view[std::size(VIEW)];
    std::vector<uint8_t> before;  // the model's state when it was last looked at

    Sim() : top(new Vtop{&context}) { list_ports(*top, ports); }

    uint64_t get(uint32_t index) const {
        const Field& field = FIELDS[index];
        const Port& port = ports[field.port];
        const uint32_t byte = field.lsb / 8;
        unsigned __int128 window = 0;
        std::memcpy(&window, static_cast<const uint8_t*>(port.storage) + byte,
                    std::min<uint32_t>(9, port.bytes - byte));
        return static_cast<uint64_t>(window >> (field.lsb % 8)) & mask(field.width);
    }

    void set(uint32_t index, uint64_t value) {
        const Field& field = FIELDS[index];
        const Port& port = ports[field.port];
        const uint32_t byte = field.lsb / 8;
        const uint32_t bytes = std::min<uint32_t>(9, port.bytes - byte);
        uint8_t* const at = static_cast<uint8_t*>(port.storage) + byte;
        unsigned __int128 window = 0;
        std::memcpy(&window, at, bytes);
        const auto bits = static_cast<unsigned __int128>(mask(field.width)) << (field.lsb % 8);
        window = (window & ~bits)
                 | ((static_cast<unsigned __int128>(value) << (field.lsb % 8)) & bits);
        std::memcpy(at, &window, bytes);
    }

    static uint64_t mask(uint32_t width) { return width >= 64 ? ~0ull : (1ull << width) - 1; }

    static bool later(const Poke& a, const Poke& b) {
        return a.cycle != b.cycle ? a.cycle > b.cycle : a.order > b.order;
    }

    void push(const Poke& poke) {
        if (schedule.empty()) given = 0;
        schedule.push_back(poke);
        schedule.back().order = given++;
        std::push_heap(schedule.begin(), schedule.end(), later);
    }

    void apply_due() {
        while (!schedule.empty() && schedule.front().cycle <= cycle) {
            set(schedule.front().field, schedule.front().value);
            std::pop_heap(schedule.begin(), schedule.end(), later);
            schedule.pop_back();
        }
    }

    void clock() {
        top->clk = 1;
        top->eval();
        top->clk = 0;
        ++cycle;
    }

    void reset() {
        top->clk = 0;
        top->rst = 1;
        for (int i = 0; i < 2; ++i) {
            top->eval();
            clock();
        }
        top->rst = 0;
        cycle = 0;
        top->eval();
    }

    void log_events() {
        for (uint32_t channel = 0; channel < std::size(TAP_CHANNELS); ++channel) {
            if (get(TAP_CHANNELS[channel].valid)) {
                Record record{cycle, channel, 0, {}};
                std::memcpy(record.words, ports[TAP_CHANNELS[channel].record_port].storage, 16);
                records.push_back(record);
            }
        }
    }

    bool watched() {
        bool wake = false;
        for (uint32_t field : WAKE_HIGH) wake |= get(field) != 0;
        for (size_t i = 0; i < std::size(WAKE_CHANGE); ++i) {
            const uint8_t level = static_cast<uint8_t>(get(WAKE_CHANGE[i]));
            wake |= level != levels[i];
            levels[i] = level;
        }
        return wake;
    }

    // The state of cycle t is what is settled before its rising edge.
    bool sample() {
        apply_due();
        top->eval();
        if (any_event(*top)) log_events();
        if (RAM_WORDS && top->ram_written) page_written[top->ram_index / PAGE_WORDS] = 1;
        return watched();
    }

    uint32_t run(const Poke* pokes, uint32_t count, uint64_t until) {
        for (uint32_t i = 0; i < count; ++i) push(pokes[i]);
        uint32_t reason = 0;
        uint32_t clocks = 0;
        while (!reason) {
            if (cycle >= until) return DUE;
            const bool look = ++clocks % LOOK == 0;
            if (look) keep();
            const size_t logged = records.size();
            if (sample()) {
                reason |= WATCHED;
                for (size_t i = 0; i < std::size(VIEW); ++i) view[i] = get(VIEW[i]);
            }
            if (records.size() >= MAX_RECORDS) reason |= FULL;
            const bool silent = !reason && records.size() == logged && !top->ram_written;
            clock();
            if (look && silent && kept()) rest(until);
        }
        return reason;
    }

    // A clock that changes nothing is followed by more of them, until an input changes.
    void rest(uint64_t until) {
        cycle = schedule.empty() ? until : std::min(until, schedule.front().cycle);
    }

    void keep() {
        before.assign(state(), ram());
        before.insert(before.end(), ram_end(), state_end());
    }

    bool kept() {
        const size_t low = ram() - state();
        return !std::memcmp(before.data(), state(), low)
               && !std::memcmp(before.data() + low, ram_end(), before.size() - low);
    }

    // Carry out steps one after the other; fewer than count: the next was not answered in time.
    uint32_t perform(const Step* steps, Outcome* outcomes, uint32_t count, uint64_t patience) {
        for (uint32_t i = 0; i < count; ++i) {
            const Step& step = steps[i];
            Outcome& outcome = outcomes[i];
            if (step.kind == POKE) {
                set(step.target, step.data);
            } else if (step.kind == AWAIT) {
                if (!await(step, outcome, patience)) return i;
            } else if (!operate(step, ASKERS[step.target], outcome, cycle + patience)) {
                return i;
            }
            for (uint32_t clocks = step.kind == AWAIT ? 0 : step.settle; clocks; --clocks) {
                sample();
                clock();
            }
            outcome.cycle = cycle;
            outcome.levels = 0;
            for (size_t line = 0; line < levels.size(); ++line)
                outcome.levels |= static_cast<uint32_t>(levels[line]) << line;
        }
        return count;
    }

    bool await(const Step& step, Outcome& outcome, uint64_t patience) {
        const Step read{step.address, 0, step.target, 0, READ_SYSREG, 0};
        const size_t irq = std::size(WAKE_CHANGE) / (std::size(ASKERS) - 1) * step.target;
        for (uint32_t times = step.settle; times; --times) {
            if (!operate(read, ASKERS[step.target], outcome, cycle + patience)) return false;
            if (outcome.data == step.data && levels[irq] == step.size) break;
        }
        return true;
    }

    bool operate(const Step& step, const Asker& asker, Outcome& outcome, uint64_t until) {
        set(asker.kind, step.kind);
        set(asker.size, step.size);
        set(asker.address, step.address);
        set(asker.data, step.data);
        set(asker.valid, 1);
        for (bool answered = false; !answered;) {
            if (cycle >= until) return false;
            sample();
            answered = get(asker.answered);
            outcome.data = get(asker.answer);
            outcome.error = static_cast<uint32_t>(get(asker.error));
            clock();
            set(asker.valid, 0);
        }
        return true;
    }

    uint8_t* state() { return reinterpret_cast<uint8_t*>(top->rootp); }
    uint8_t* ram() { return reinterpret_cast<uint8_t*>(&top->rootp->RAM); }
    uint8_t* ram_end() { return ram() + RAM_WORDS * 4; }
    uint8_t* state_end() { return state() + sizeof(*top->rootp); }

    uint32_t snapshot(uint32_t slot) {
        Snapshot taken;
        taken.cycle = cycle;
        taken.before.assign(state(), ram());
        taken.after.assign(ram_end(), state_end());
        taken.schedule = schedule;
        taken.given = given;
        taken.levels = levels;
        taken.records = records;
        const auto* words = reinterpret_cast<const uint32_t*>(ram());
        for (uint32_t page = 0; page < PAGES; ++page) {
            if (!page_written[page]) continue;
            taken.pages.push_back(page);
            const uint64_t first = page * PAGE_WORDS;
            const uint64_t last = std::min<uint64_t>(first + PAGE_WORDS, RAM_WORDS);
            taken.words.insert(taken.words.end(), words + first, words + last);
        }
        if (slot < snapshots.size()) {
            snapshots[slot] = std::move(taken);
            return slot;
        }
        snapshots.push_back(std::move(taken));
        return static_cast<uint32_t>(snapshots.size() - 1);
    }

    void restore(uint32_t slot) {
        const Snapshot& saved = snapshots[slot];
        cycle = saved.cycle;
        std::memcpy(state(), saved.before.data(), saved.before.size());
        std::memcpy(ram_end(), saved.after.data(), saved.after.size());
        schedule = saved.schedule;
        given = saved.given;
        levels = saved.levels;
        records = saved.records;
        auto* words = reinterpret_cast<uint32_t*>(ram());
        for (uint32_t page = 0; page < PAGES; ++page) {
            if (!page_written[page]) continue;
            const uint64_t first = page * PAGE_WORDS;
            const uint64_t last = std::min<uint64_t>(first + PAGE_WORDS, RAM_WORDS);
            std::memset(words + first, 0, (last - first) * 4);
            page_written[page] = 0;
        }
        size_t from = 0;
        for (uint32_t page : saved.pages) {
            const uint64_t first = page * PAGE_WORDS;
            const uint64_t last = std::min<uint64_t>(first + PAGE_WORDS, RAM_WORDS);
            std::memcpy(words + first, saved.words.data() + from, (last - first) * 4);
            page_written[page] = 1;
            from += last - first;
        }
    }

    void write_ram(uint64_t offset, const uint8_t* bytes, uint64_t count) {
        std::memcpy(ram() + offset, bytes, count);
        for (uint64_t page = offset / (4 * PAGE_WORDS);
             page <= (offset + count - 1) / (4 * PAGE_WORDS); ++page) {
            page_written[page] = 1;
        }
    }
};

extern "C" {

Sim* irqscope_new() {
    auto* sim = new Sim;
    sim->reset();
    return sim;
}

void irqscope_free(Sim* sim) { delete sim; }
uint32_t irqscope_run(Sim* sim, const Poke* pokes, uint32_t count, uint64_t until) {
    return sim->run(pokes, count, until);
}
uint32_t irqscope_perform(Sim* sim, const Step* steps, Outcome* outcomes, uint32_t count,
                          uint64_t patience) {
    return sim->perform(steps, outcomes, count, patience);
}
uint64_t irqscope_cycle(Sim* sim) { return sim->cycle; }
uint64_t irqscope_get(Sim* sim, uint32_t field) { return sim->get(field); }
uint64_t* irqscope_view(Sim* sim) { return sim->view; }
uint64_t irqscope_records(Sim* sim) { return sim->records.size(); }
const Record* irqscope_record_data(Sim* sim) { return sim->records.data(); }
void irqscope_forget_records(Sim* sim) { sim->records.clear(); }
uint32_t irqscope_snapshot(Sim* sim, uint32_t slot) { return sim->snapshot(slot); }
void irqscope_restore(Sim* sim, uint32_t slot) { sim->restore(slot); }
void irqscope_write_ram(Sim* sim, uint64_t offset, const uint8_t* bytes, uint64_t count) {
    sim->write_ram(offset, bytes, count);
}
const uint8_t* irqscope_ram(Sim* sim) { return sim->ram(); }

// Clocks alone, nothing watched or logged: the limit every other figure is compared with.
void irqscope_spin(Sim* sim, uint64_t cycles) {
    for (uint64_t i = 0; i < cycles; ++i) {
        sim->top->eval();
        sim->clock();
    }
}
}
