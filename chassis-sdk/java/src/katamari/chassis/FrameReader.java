// Reads frames from a connection. Memory grows with the bytes that have arrived, never with a declared size. Of a
// frame above the limit, only the begin is kept, so that its call can be refused and the connection lives on.

package katamari.chassis;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.ReadableByteChannel;
import java.util.Arrays;

final class FrameReader {
  /**
   * A frame.
   *
   * @param size its bytes, without the four of the length
   */
  record Frame(byte[] bytes, int size) {
    /** Whether it is above the limit; `bytes` are then only its begin. */
    boolean isOversized() {
      return bytes.length < size;
    }
  }

  private static final int CHUNK_BYTES = 65_536;

  private final ReadableByteChannel channel;
  private final Limits limits;
  private final ByteBuffer chunk = ByteBuffer.allocate(CHUNK_BYTES).flip();
  /** `System.nanoTime()` when the first byte of an incomplete frame arrived; 0 between two frames. */
  private volatile long begunNs;
  private int toSkip;

  FrameReader(ReadableByteChannel channel, Limits limits) {
    this.channel = channel;
    this.limits = limits;
  }

  /** Whether a frame has been incomplete for so long. */
  boolean isLate(long timeoutNs) {
    long begun = begunNs;
    return begun != 0 && System.nanoTime() - begun > timeoutNs;
  }

  /**
   * Returns the next frame; null if the peer has closed the connection, also inside a frame.
   *
   * @throws MalformedException for what is no frame
   */
  Frame next() throws IOException {
    while (toSkip > 0) {
      int skipped = Math.min(toSkip, chunk.remaining());
      chunk.position(chunk.position() + skipped);
      toSkip -= skipped;
      if (toSkip > 0 && !more()) return null;
    }
    begunNs = chunk.hasRemaining() ? now() : 0;
    if (!have(4)) return null;
    int size = chunk.getInt();
    if (size < 0 || size > Limits.SKIPPED_BYTES_MAX)
      throw new MalformedException("a frame of " + size + " bytes, limit is " + limits.frameBytesMax());
    Frame frame = size > limits.keptBytesMax() ? startOf(size) : whole(size);
    if (toSkip == 0) begunNs = 0;
    return frame;
  }

  private Frame whole(int size) throws IOException {
    byte[] bytes = new byte[Math.min(size, CHUNK_BYTES)];
    for (int at = 0; at < size; ) {
      if (!chunk.hasRemaining() && !more()) return null;
      if (at == bytes.length) bytes = Arrays.copyOf(bytes, (int) Math.min(size, 2L * bytes.length));
      int taken = Math.min(chunk.remaining(), bytes.length - at);
      chunk.get(bytes, at, taken);
      at += taken;
    }
    return new Frame(bytes, size);
  }

  private Frame startOf(int size) throws IOException {
    if (!have(8)) return null;
    byte[] first = new byte[8];
    chunk.get(chunk.position(), first);
    int start = Message.startBytes(first);
    if (start < 0) throw new MalformedException("a frame of " + size + " bytes that begins like no message");
    if (!have(start)) return null;
    byte[] bytes = new byte[start];
    chunk.get(bytes);
    toSkip = size - start;
    return new Frame(bytes, size);
  }

  /** Reads until that many bytes are in the chunk. Returns false if the peer closes before. */
  private boolean have(int bytes) throws IOException {
    while (chunk.remaining() < bytes) if (!more()) return false;
    return true;
  }

  private boolean more() throws IOException {
    chunk.compact();
    int read;
    try {
      read = channel.read(chunk);
    } finally {
      chunk.flip();
    }
    if (read > 0 && begunNs == 0) begunNs = now();
    return read >= 0;
  }

  /** 0 means that no frame has begun. */
  private static long now() {
    return System.nanoTime() | 1;
  }
}
