// An index reader whose terms are those of a list.

package katamari.lucene;

import java.util.Iterator;
import java.util.SortedSet;
import org.apache.lucene.index.FilterIndexReader;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.index.Term;
import org.apache.lucene.index.TermEnum;

final class TermListReader extends FilterIndexReader {
  private final SortedSet<Term> terms;

  TermListReader(IndexReader reader, SortedSet<Term> terms) {
    super(reader);
    this.terms = terms;
  }

  @Override
  public TermEnum terms() {
    return new ListEnum(terms.iterator(), false);
  }

  @Override
  public TermEnum terms(Term from) {
    return new ListEnum(terms.tailSet(from).iterator(), true);
  }

  /** The terms in their order. */
  private static final class ListEnum extends TermEnum {
    private final Iterator<Term> rest;
    private Term term;

    /** @param isAtFirst whether it stands at the first term, or before it */
    ListEnum(Iterator<Term> terms, boolean isAtFirst) {
      rest = terms;
      if (isAtFirst) next();
    }

    @Override
    public boolean next() {
      term = rest.hasNext() ? rest.next() : null;
      return term != null;
    }

    @Override
    public Term term() {
      return term;
    }

    @Override
    public int docFreq() {
      return term == null ? 0 : 1;
    }

    @Override
    public void close() {
      // Nothing is open.
    }
  }
}
