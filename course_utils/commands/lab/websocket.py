"""A Jupyter server that passes a kernel's messages on at once.

A server's websocket holds small messages back until the browser has acknowledged the one before (Nagle's algorithm),
and a browser may take 40 ms for that. Widgets whose pictures come from the kernel feel it.
Only the server imports this.
"""

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """Jupyter's connection between one browser tab and one kernel, without the delay."""

    def connect(self):
        self.websocket_handler.set_nodelay(True)
        return super().connect()
