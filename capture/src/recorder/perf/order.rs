//! Many rings, one order of time.

use std::collections::VecDeque;

use super::event::Event;

/// Events of many CPUs that wait until no earlier one can come.
#[derive(Debug)]
pub(super) struct Order {
    queues: Vec<(u16, VecDeque<Event>)>,
}

impl Order {
    /// For these CPUs.
    pub(super) fn new(cpus: impl IntoIterator<Item = u16>) -> Order {
        Order {
            queues: cpus.into_iter().map(|cpu| (cpu, VecDeque::new())).collect(),
        }
    }

    /// Takes in the next event of the CPU at place `at`.
    pub(super) fn push(&mut self, at: usize, event: Event) {
        if let Some((_, queue)) = self.queues.get_mut(at) {
            queue.push_back(event);
        }
    }

    /// The earliest event up to time `until`, with its CPU. A CPU's own events keep their order.
    pub(super) fn pop(&mut self, until: u64) -> Option<(u16, Event)> {
        let first =
            |(at, (_, queue)): (usize, &(u16, VecDeque<Event>))| Some((queue.front()?.time(), at));
        let (time, at) = self.queues.iter().enumerate().filter_map(first).min()?;
        let (cpu, queue) = self.queues.get_mut(at).filter(|_| time <= until)?;
        Some((*cpu, queue.pop_front()?))
    }

    /// Threads whose begin waits here.
    pub(super) fn begun(&self) -> impl Iterator<Item = u32> {
        let events = self.queues.iter().flat_map(|(_, queue)| queue);
        events.filter_map(|event| match event {
            Event::Fork(task) => Some(task.tid),
            Event::Fault(_)
            | Event::Map(_)
            | Event::Comm(_)
            | Event::Exit(_)
            | Event::Lost { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(time: u64) -> Event {
        Event::Lost { time, count: time }
    }

    #[test]
    fn earliest_first_and_none_too_soon() {
        let mut order = Order::new([0, 3]);
        for time in [10, 30, 20, 50] {
            order.push(0, lost(time)); // 20 came late, and stays behind 30
        }
        for time in [5, 25, 40] {
            order.push(1, lost(time));
        }
        let mut popped = Vec::new();
        while let Some((cpu, event)) = order.pop(40) {
            popped.push((cpu, event.time()));
        }
        assert_eq!(
            popped,
            [(3, 5), (0, 10), (3, 25), (0, 30), (0, 20), (3, 40)]
        );
        assert_eq!(order.pop(u64::MAX), Some((0, lost(50))));
        assert_eq!(order.pop(u64::MAX), None);
    }
}
