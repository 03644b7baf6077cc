// A boolean query whose score does not depend on the order in which Lucene visits its clauses. Lucene 3 adds the
// scores of three and more required clauses as floats, the rarest first, and which one is the rarest differs between
// shards. This one adds them as doubles, in the order of the query.

package katamari.lucene;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.Scorer;
import org.apache.lucene.search.Searcher;
import org.apache.lucene.search.Weight;

final class ExactBooleanQuery extends BooleanQuery {
  private static final long serialVersionUID = 1L;
  /** With fewer, the order makes no difference. */
  private static final int REQUIRED_LEAST = 3;

  ExactBooleanQuery(boolean isCoordDisabled) {
    super(isCoordDisabled);
  }

  @Override
  public Weight createWeight(Searcher searcher) throws IOException {
    int required = 0;
    for (BooleanClause clause : getClauses()) if (clause.isRequired()) required++;
    return required < REQUIRED_LEAST ? super.createWeight(searcher) : new ExactWeight(searcher);
  }

  private final class ExactWeight extends BooleanWeight {
    private static final long serialVersionUID = 1L;

    ExactWeight(Searcher searcher) throws IOException {
      super(searcher, isCoordDisabled());
    }

    @Override
    public Scorer scorer(IndexReader reader, boolean isInOrder, boolean isTop) throws IOException {
      List<Scorer> required = new ArrayList<>();
      List<Scorer> optional = new ArrayList<>();
      List<Scorer> prohibited = new ArrayList<>();
      for (int i = 0; i < weights.size(); i++) {
        BooleanClause clause = getClauses()[i];
        Scorer scorer = weights.get(i).scorer(reader, true, false);
        if (scorer == null && clause.isRequired()) return null;
        if (scorer == null) continue;
        (clause.isRequired() ? required : clause.isProhibited() ? prohibited : optional).add(scorer);
      }
      float[] coords = new float[maxCoord + 1];
      for (int i = 0; i <= maxCoord; i++)
        coords[i] = isCoordDisabled() ? 1 : similarity.coord(i, maxCoord);
      return new ExactScorer(this, required, optional, prohibited, coords);
    }
  }

  private static final class ExactScorer extends Scorer {
    private final List<Scorer> required;
    private final List<Scorer> optional;
    private final List<Scorer> prohibited;
    /** Factors by the number of clauses that match. */
    private final float[] coords;
    private int document = -1;

    ExactScorer(
        Weight weight, List<Scorer> required, List<Scorer> optional, List<Scorer> prohibited, float[] coords) {
      super(weight);
      this.required = required;
      this.optional = optional;
      this.prohibited = prohibited;
      this.coords = coords;
    }

    @Override
    public int docID() {
      return document;
    }

    @Override
    public int nextDoc() throws IOException {
      return advance(document + 1);
    }

    @Override
    public int advance(int target) throws IOException {
      document = target;
      for (;;) {
        document = nextOfAll(document);
        if (document == NO_MORE_DOCS || !isProhibited()) return document;
        document++;
      }
    }

    /** Returns the first document from `from` on that all required clauses match. */
    private int nextOfAll(int from) throws IOException {
      int candidate = from;
      for (int agreeing = 0, i = 0; agreeing < required.size(); i = (i + 1) % required.size()) {
        int found = at(required.get(i), candidate);
        agreeing = found == candidate ? agreeing + 1 : 1;
        candidate = found;
        if (candidate == NO_MORE_DOCS) return NO_MORE_DOCS;
      }
      return candidate;
    }

    private boolean isProhibited() throws IOException {
      for (Scorer scorer : prohibited) if (at(scorer, document) == document) return true;
      return false;
    }

    /** Moves to the first document from `from` on. */
    private static int at(Scorer scorer, int from) throws IOException {
      return scorer.docID() >= from ? scorer.docID() : scorer.advance(from);
    }

    @Override
    public float score() throws IOException {
      double sum = 0;
      int matching = required.size();
      for (Scorer scorer : required) sum += scorer.score();
      for (Scorer scorer : optional) {
        if (at(scorer, document) != document) continue;
        sum += scorer.score();
        matching++;
      }
      return (float) sum * coords[matching];
    }
  }
}
