//! The servers of `[services]`: started when an attempt wants one, ended when no task is left that may need it.

use super::{Build, Stopped};
use planexe_engine::scheduler::ServiceIs;

impl Build<'_> {
    /// Starts what is wanted, ends what is not, or is in the way of others.
    pub(super) fn look_at_services(&mut self) {
        if self.project.services.is_empty() {
            return;
        }
        let is_needed = |at| {
            let graph = self.engine.graph();
            graph.ids().any(|id| {
                self.engine.is_wanted(id)
                    && self.engine.settled(id).is_none()
                    && self.project.may_need(self.project.spec(&graph[id]), at)
            })
        };
        self.ctx.services.tend(&self.ctx, is_needed);
        for at in 0..self.project.services.len() {
            self.engine.service_is(at, self.ctx.services.stands(at));
        }
        for at in self.engine.crowding(self.now()) {
            if self.ctx.services.make_room(at) {
                self.engine.service_is(at, ServiceIs::Ending);
            }
        }
    }

    /// The build is over.
    pub(super) fn close_services(&mut self) {
        let stopped = matches!(self.steering.stopped(), Some(Stopped::Signal(_)));
        self.ctx.services.close(&self.ctx, stopped, self.records.is_begun());
        self.drain_events();
    }
}
