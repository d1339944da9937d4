//! What operators do to an execution.

use relive_core::{
    Error,
    event::{CancelRequested, EventBody},
};
use tokio::sync::oneshot;

use crate::{
    engine::Engine,
    message::{Control, Incoming, Message, Reply},
    requests::Target,
};

impl Engine {
    /// Asks an execution to cancel; its code may clean up. A second request is the same request.
    pub async fn cancel(&self, target: Target, reason: String) -> Result<(), Error> {
        let message = |reply| {
            let incoming =
                Incoming { reply: Some(reply), ..Incoming::new(EventBody::new(None, CancelRequested { reason })) };
            Message::Inbound(Box::new(incoming))
        };
        self.tell(target, message).await
    }

    /// Ends an execution at once; its code is not asked.
    pub async fn terminate(&self, target: Target, reason: String) -> Result<(), Error> {
        self.tell(target, |reply| Message::Control(Control::Terminate { reason, reply })).await
    }

    /// Lets a blocked execution try again. One that is not blocked stays as it is.
    pub async fn unblock(&self, target: Target, reason: String) -> Result<(), Error> {
        self.tell(target, |reply| Message::Control(Control::Unblock { reason, reply })).await
    }

    async fn tell(&self, target: Target, message: impl FnOnce(Reply) -> Message) -> Result<(), Error> {
        self.accepting()?;
        let row = self.blocking(move |engine| engine.find_open(&target)).await?;
        let (reply, answer) = oneshot::channel();
        self.context.registry.post(row.key, message(reply));
        self.answered(answer).await
    }
}
