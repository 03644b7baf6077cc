// A connection of this process to the mesh, and the pool of idle ones. A connection carries one call at a time. One on
// which a call failed is closed.

package katamari.chassis;

import java.io.EOFException;
import java.io.IOException;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.TimeUnit;

final class MeshConnection {
  /** Idle connections that are kept. */
  private static final int IDLE_MAX = 16;
  private static final long CONNECT_NS = TimeUnit.SECONDS.toNanos(5);
  private static final int SLICE_BYTES = 65_536;
  private static final Deque<MeshConnection> IDLE = new ArrayDeque<>();

  private final SocketChannel channel;
  private final Selector selector;
  private final SelectionKey key;
  private final FrameReader reader;
  private long deadlineNs;

  private MeshConnection(SocketChannel channel, Limits limits) throws IOException {
    this.channel = channel;
    selector = Selector.open();
    key = channel.register(selector, 0);
    reader = new FrameReader(new Blocking(), limits);
  }

  /**
   * Takes an idle connection or opens one.
   *
   * @param deadlineNs of everything that happens on it until it is given back
   */
  static MeshConnection take(String address, Limits limits, long deadlineNs) throws IOException {
    for (;;) {
      MeshConnection idle;
      synchronized (IDLE) {
        idle = IDLE.pollLast();
      }
      if (idle == null) return connect(address, limits, deadlineNs);
      idle.deadlineNs = deadlineNs;
      if (idle.isOpen()) return idle;
      idle.close();
    }
  }

  private static MeshConnection connect(String address, Limits limits, long deadlineNs) throws IOException {
    SocketChannel channel = Address.parse(address).connect();
    try {
      MeshConnection connection = new MeshConnection(channel, limits);
      connection.deadlineNs = Math.min(deadlineNs, System.nanoTime() + CONNECT_NS);
      while (!channel.finishConnect()) connection.await(SelectionKey.OP_CONNECT);
      connection.deadlineNs = deadlineNs;
      return connection;
    } catch (IOException | RuntimeException error) {
      channel.close();
      throw error;
    }
  }

  void send(ByteBuffer message) throws IOException {
    while (message.hasRemaining()) {
      int bytes = Math.min(message.remaining(), SLICE_BYTES);
      int written = channel.write(message.slice(message.position(), bytes));
      message.position(message.position() + written);
      if (written == 0) await(SelectionKey.OP_WRITE);
    }
  }

  /** Waits for the next frame. */
  FrameReader.Frame receive(long until) throws IOException {
    deadlineNs = until;
    FrameReader.Frame frame = reader.next();
    if (frame == null) throw new EOFException("the connection was closed");
    return frame;
  }

  void giveBack() {
    synchronized (IDLE) {
      if (IDLE.size() < IDLE_MAX) {
        IDLE.addLast(this);
        return;
      }
    }
    close();
  }

  void close() {
    try {
      selector.close();
      channel.close();
    } catch (IOException ignored) {
      // It is closed as well as it can be.
    }
  }

  /** Whether an idle connection is open: its peer sends nothing, so data means that it closes. */
  private boolean isOpen() {
    try {
      return channel.read(ByteBuffer.allocate(1)) == 0;
    } catch (IOException closed) {
      return false;
    }
  }

  /** @throws SocketTimeoutException after the deadline */
  private void await(int operation) throws IOException {
    long leftMs = TimeUnit.NANOSECONDS.toMillis(deadlineNs - System.nanoTime());
    if (leftMs < 0) throw new SocketTimeoutException("the deadline has passed");
    key.interestOps(operation);
    selector.select(leftMs + 1);
    selector.selectedKeys().clear();
  }

  /** The channel as the frame reader needs it. */
  private final class Blocking implements java.nio.channels.ReadableByteChannel {
    @Override
    public int read(ByteBuffer into) throws IOException {
      int read = channel.read(into);
      while (read == 0) {
        await(SelectionKey.OP_READ);
        read = channel.read(into);
      }
      return read;
    }

    @Override
    public boolean isOpen() {
      return channel.isOpen();
    }

    @Override
    public void close() throws IOException {
      channel.close();
    }
  }
}
